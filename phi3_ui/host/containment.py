"""What a model's process may see and use: an environment, folders and limits of its own, and on Linux Landlock.

The app describes a process with `prepare`; the process confines itself (`confinement.py`) before it imports anything of a
model. Light to import: the process does so first.
"""

import contextlib
import json
import logging
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from models import TELEMETRY_OFF
from phi3_ui.paths import ROOT

logger = logging.getLogger(__name__)

TrustLevel = Literal["data_only", "ours", "code"]
"""What loading a model runs: libraries alone, this app's own wrapper too, or code of others, which was approved."""

MAX_FILE_BYTES = 512 << 20
"""Of each file that a model writes. Loading and answering write none; compilers' caches stay far below."""

EXTRA_ADDRESS_SPACE = 16 << 30
"""Added to the machine's memory for the limit of the address space: libraries and the stacks of threads reserve 3 to 5 GiB
that they never use, and weights are mapped before they are read."""

COMPLETE_LANDLOCK = 6
"""The version since which files, TCP connections, signals and abstract sockets can all be denied (Linux 6.12)."""

_PREFIX = "phi3-model-"
_LOCK = "lock"
_KEPT_VARIABLES = re.compile(
    r"PATH|LANG|LANGUAGE|LC_\w+|TZ|LD_LIBRARY_PATH|DYLD_LIBRARY_PATH|LIBRARY_PATH|VIRTUAL_ENV|"
    r"OMP_\w+|GOMP_\w+|KMP_\w+|MKL_\w+|OPENBLAS_\w+|BLIS_\w+|NUMEXPR_\w+|MALLOC_\w+|"
    r"CUDA_\w+|NVIDIA_\w+|HIP_\w+|HSA_\w+|ROCR_\w+|PYTORCH_\w+|TORCH_CUDA_\w+|ORT_\w+|TOKENIZERS_PARALLELISM|"
    r"TRANSFORMERS_OFFLINE|HF_HUB_DISABLE_\w+|PYTHONHASHSEED|PYTHONUTF8|PYTHONWARNINGS|PYTHONFAULTHANDLER|"
    r"MLFLOW_DISABLE_TELEMETRY|MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR|SSL_CERT_FILE|SSL_CERT_DIR|"
    r"SYSTEMROOT|SYSTEMDRIVE|WINDIR|COMSPEC|PATHEXT|NUMBER_OF_PROCESSORS|PROCESSOR_\w+",
    re.IGNORECASE if os.name == "nt" else 0,
)
"""Variables that libraries need to compute; none holds a secret."""

_ZERO_GPU_VARIABLES = re.compile(r"SPACES_ZERO_\w+|ZEROGPU_\w+|ZERO_GPU_\w+")
_SHARED_MEMORY = "/dev/shm"  # noqa: S108 (no file of ours: where the locks are that forked processes share)

_LEVEL_VARIABLES: dict[TrustLevel, dict[str, str]] = {
    "data_only": {"MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "False"},
    "ours": {"MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "False"},
    "code": {},
}


@dataclass(frozen=True)
class Containment:
    """How one process is confined. Kept as JSON in its folder, where the process cannot read it once it is confined."""

    folder: str
    """The process's own: its working, temporary and home folders, and `lib` with the app's packages."""
    environment: dict[str, str]
    """All variables that the process has."""
    readable: tuple[str, ...]
    """Folders and files, besides the system's."""
    writable: tuple[str, ...]
    has_network: bool
    may_execute: bool
    """Whether it may start programs of the system."""
    uses_zero_gpu: bool = False
    """Whether it asks for a GPU through the network, and forks the workers that compute on it."""

    @property
    def work(self) -> Path:
        """The working folder, empty at the start."""
        return Path(self.folder, "work")

    @property
    def file(self) -> Path:
        """Where this is kept as JSON."""
        return Path(self.folder, "containment.json")

    def save(self) -> None:
        """Write `file`."""
        self.file.write_text(json.dumps(asdict(self)), encoding="utf-8")


def load(file: str) -> Containment:
    """Read what `save` wrote."""
    return Containment(**json.loads(Path(file).read_text(encoding="utf-8")))


@dataclass(frozen=True)
class Grants:
    """What a model gets besides its own folder."""

    model_folder: str | None
    """Its files, to be read; None: it has none on this machine."""
    level: TrustLevel
    """Code of others may use the network and start programs."""
    folders: tuple[str, ...] = ()
    """Further folders, to be read and written."""
    packages: tuple[str, ...] = ()
    """Top-level packages of the app that the process imports, besides `phi3_ui` and `models`."""
    variables: tuple[str, ...] = ()
    """Names of further environment variables."""
    uses_zero_gpu: bool = False
    """See Containment."""

    @property
    def is_code(self) -> bool:
        """Whether others' code is part of it."""
        return self.level == "code"


@contextlib.contextmanager
def prepare(grants: Grants) -> Iterator[Containment]:
    """Create a process's own folder, which is removed at the end, and say how the process is confined."""
    from filelock import FileLock

    _remove_abandoned_folders()
    folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-")).resolve()
    lock = FileLock(folder / _LOCK)  # freed however the app ends
    try:
        lock.acquire(blocking=False)
        for name in ("work", "tmp", "home", "lib"):
            (folder / name).mkdir()
        packages = _find_packages(grants.packages)
        for package in packages:
            with contextlib.suppress(OSError):  # Windows may refuse; then the packages are found as they are here
                (folder / "lib" / package.name).symlink_to(package, target_is_directory=package.is_dir())
        writable = [str(folder / name) for name in ("work", "tmp", "home")]
        environment = {**build_environment(os.environ, folder, grants.variables), **_LEVEL_VARIABLES[grants.level]}
        if grants.uses_zero_gpu:
            writable.append(_SHARED_MEMORY)
            environment |= {name: value for name, value in os.environ.items() if _ZERO_GPU_VARIABLES.fullmatch(name)}
            environment |= {"MLFLOW_DEFAULT_PREDICTION_DEVICE": "-1"}  # the CPU, until a GPU is lent
        containment = Containment(
            str(folder),
            environment,
            (*map(str, packages), *_readable_folders(folder, grants)),
            (*writable, *grants.folders),
            grants.is_code or grants.uses_zero_gpu,
            grants.is_code,
            grants.uses_zero_gpu,
        )
        containment.save()
        yield containment
    finally:
        lock.release()
        shutil.rmtree(folder, ignore_errors=True)


def _find_packages(names: tuple[str, ...]) -> list[Path]:
    """The folders, or files, of the app's packages and of those with these names, which this process has imported."""
    others = [sys.modules[name].__file__ for name in set(names) - {"phi3_ui", "models"} if name in sys.modules]
    files = [Path(file) for file in others if file]
    folders = [file.parent if file.name == "__init__.py" else file for file in files]
    return [ROOT / "phi3_ui", ROOT / "models", *folders]


def build_environment(inherited: Mapping[str, str], folder: Path, variables: tuple[str, ...] = ()) -> dict[str, str]:
    """The variables of a process whose own folder is `folder`: those that it needs to compute, and `variables`."""
    kept = {name: value for name, value in inherited.items() if _KEPT_VARIABLES.fullmatch(name) or name in variables}
    cache_folder = _hub_cache(inherited)
    path = [str(folder / "lib"), *_python_path(inherited)]
    return {
        **kept,
        **TELEMETRY_OFF,
        "HOME": str(folder / "home"),
        "USERPROFILE": str(folder / "home"),
        "TMPDIR": str(folder / "tmp"),
        "TEMP": str(folder / "tmp"),
        "TMP": str(folder / "tmp"),
        "HF_HOME": str(folder / "home"),  # the one of the app holds its token
        "HF_HUB_CACHE": str(cache_folder),
        "HF_HUB_OFFLINE": "1",  # a logged model is complete
        "PYTHONPATH": os.pathsep.join(path),
        "PYTHONSAFEPATH": "1",  # no modules from the working folder
        "PYTHONUNBUFFERED": "1",
    }


def _hub_cache(environment: Mapping[str, str]) -> Path:
    home = environment.get("HF_HOME") or Path.home() / ".cache" / "huggingface"
    return Path(environment.get("HF_HUB_CACHE") or Path(home) / "hub")


def _python_path(environment: Mapping[str, str]) -> list[str]:
    """The folders of PYTHONPATH but the app's own, which may hold its data as well."""
    folders = filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))
    given = [str(Path(folder).resolve()) for folder in folders if Path(folder).resolve() != ROOT]
    is_linked = os.name != "nt"
    return given if is_linked else [*given, str(ROOT)]


def _readable_folders(folder: Path, grants: Grants) -> Iterator[str]:
    yield str(folder / "lib")
    if grants.model_folder:
        yield grants.model_folder
        # Weights on another disk than the inspected copy of the model are links out of it.
        yield from (str(path.resolve()) for path in Path(grants.model_folder).rglob("*") if path.is_symlink())
    for entry in sys.path:  # packages of the user, and of the system, that a virtual environment may use
        if Path(entry).name in ("site-packages", "dist-packages"):
            yield entry
    yield from _python_path(os.environ)
    yield from filter(None, os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep))
    if grants.is_code:
        yield str(_hub_cache(os.environ))


def _remove_abandoned_folders() -> None:
    """Remove the folders of processes whose app was killed."""
    from filelock import FileLock, Timeout

    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*-*"):
        pid = folder.name.removeprefix(_PREFIX).partition("-")[0]
        if pid == str(os.getpid()):
            continue
        with contextlib.suppress(Timeout, OSError), FileLock(folder / _LOCK, blocking=False):
            shutil.rmtree(folder, ignore_errors=True)


@cache
def landlock_version() -> int:
    """The kernel's version of Landlock; 0: it has none, so that files and network are not denied to models."""
    if sys.platform != "linux":
        return 0
    import landlockpy

    return landlockpy.abi_version() if landlockpy.supported() else 0


@cache
def has_seccomp() -> bool:
    """Whether the kernel filters system calls, and on which architecture is known."""
    if sys.platform != "linux" or sys.maxsize < 1 << 32:  # a program of 32 bits, whose calls have other numbers
        return False
    import seccompy

    try:
        return bool(seccompy.arch()) and seccompy.supported()
    except seccompy.UnsupportedError:
        return False


@cache
def warn_unless_isolated() -> None:
    """Log once what this machine does not deny to models."""
    if not landlock_version():
        logger.warning(
            "This system has no Landlock: models' processes can read the files of the account that runs the app, and use "
            "the network. Use models that you trust."
        )
    if not has_seccomp():
        logger.warning(
            "This system does not filter system calls with seccomp, or is neither x86-64 nor ARM64: models' processes can use "
            "networks that Landlock does not know, start processes, and change others of the same account. Use models that you trust."
        )


def is_zero_gpu(environment: Mapping[str, str]) -> bool:
    """Whether this is a ZeroGPU Space, which lends GPUs, as the package `spaces` tells."""
    return environment.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")


def address_space_limit() -> int | None:
    """Bytes; None where a GPU's driver reserves more than there is, and on systems that do not count it well."""
    if sys.platform != "linux" or has_gpu_driver():
        return None
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") + EXTRA_ADDRESS_SPACE


def has_gpu_driver() -> bool:
    """Whether CUDA or ROCm may be used."""
    return Path("/dev/nvidiactl").exists() or Path("/dev/kfd").exists()
