"""What a model's process may access: its own environment, folders and limits, enforced on Linux by Landlock.

The app describes a process with `prepare`; the process confines itself (`sandbox.py`) before it imports anything from a
model. This module is cheap to import, since the process imports it first.
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
"""The code that runs when a model is loaded: libraries only, also this app's own wrapper, or approved third-party code."""

MAX_FILE_BYTES = 512 << 20
"""The size limit of each file that a model writes. Loading and answering write none; compiler caches stay far below it."""

EXTRA_ADDRESS_SPACE = 16 << 30
"""Added to the size of the machine's memory to get the address space limit: libraries and thread stacks reserve 3 to 5 GiB
that they never use, and weights are mapped before they are read."""

COMPLETE_LANDLOCK = 6
"""The first Landlock version that can deny files, TCP connections, signals and abstract sockets (Linux 6.12)."""

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
_SHARED_MEMORY = "/dev/shm"  # noqa: S108 (not a file of ours: forked processes share locks there)

_LEVEL_VARIABLES: dict[TrustLevel, dict[str, str]] = {
    "data_only": {"MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "False"},
    "ours": {"MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "False"},
    "code": {},
}


@dataclass(frozen=True)
class SandboxPolicy:
    """How one process is confined. Stored as JSON in its folder, where the confined process cannot read it."""

    folder: str
    """The process's private folder: its working, temporary and home folders, and `lib` with the app's packages."""
    environment: dict[str, str]
    """The complete environment of the process."""
    readable: tuple[str, ...]
    """Folders and files, in addition to the system's."""
    writable: tuple[str, ...]
    has_network: bool
    may_execute: bool
    """Whether it may run programs of the system."""
    uses_zero_gpu: bool = False
    """Whether it requests a GPU over the network, and forks workers that compute on it."""

    @property
    def work(self) -> Path:
        """The working folder, empty at the start."""
        return Path(self.folder, "work")

    @property
    def file(self) -> Path:
        """The file with this object as JSON."""
        return Path(self.folder, "sandbox_policy.json")

    def save(self) -> None:
        """Write `file`."""
        self.file.write_text(json.dumps(asdict(self)), encoding="utf-8")


def load_policy(file: str) -> SandboxPolicy:
    """Read what `save` wrote."""
    return SandboxPolicy(**json.loads(Path(file).read_text(encoding="utf-8")))


@dataclass(frozen=True)
class Grants:
    """What a model's process may access in addition to its private folder."""

    model_folder: str | None
    """The folder with the model's files, read-only; None: they are not on this machine."""
    level: TrustLevel
    """The trust level; third-party code may use the network and run programs."""
    folders: tuple[str, ...] = ()
    """Additional folders, readable and writable."""
    packages: tuple[str, ...] = ()
    """Top-level packages of the app that the process imports, in addition to `phi3_ui` and `models`."""
    variables: tuple[str, ...] = ()
    """Names of additional environment variables."""
    uses_zero_gpu: bool = False
    """See SandboxPolicy."""

    @property
    def is_code(self) -> bool:
        """Whether the model contains third-party code."""
        return self.level == "code"


@contextlib.contextmanager
def prepare(grants: Grants) -> Iterator[SandboxPolicy]:
    """Create a process's private folder, which is removed at the end, and yield how the process is confined."""
    from filelock import FileLock

    _remove_abandoned_folders()
    folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-")).resolve()
    lock = FileLock(folder / _LOCK)  # released however the app ends
    try:
        lock.acquire(blocking=False)
        for name in ("work", "tmp", "home", "lib"):
            (folder / name).mkdir()
        packages = _find_packages(grants.packages)
        for package in packages:
            with contextlib.suppress(OSError):  # Windows may refuse; the packages are then found through PYTHONPATH
                (folder / "lib" / package.name).symlink_to(package, target_is_directory=package.is_dir())
        writable = [str(folder / name) for name in ("work", "tmp", "home")]
        environment = {**build_environment(os.environ, folder, grants.variables), **_LEVEL_VARIABLES[grants.level]}
        if grants.uses_zero_gpu:
            writable.append(_SHARED_MEMORY)
            environment |= {name: value for name, value in os.environ.items() if _ZERO_GPU_VARIABLES.fullmatch(name)}
            environment |= {"MLFLOW_DEFAULT_PREDICTION_DEVICE": "-1"}  # the CPU, until a GPU is lent
        policy = SandboxPolicy(
            str(folder),
            environment,
            (*map(str, packages), *_list_readable(folder, grants)),
            (*writable, *grants.folders),
            grants.is_code or grants.uses_zero_gpu,
            grants.is_code,
            grants.uses_zero_gpu,
        )
        policy.save()
        yield policy
    finally:
        lock.release()
        shutil.rmtree(folder, ignore_errors=True)


def _find_packages(names: tuple[str, ...]) -> list[Path]:
    """Return the folders or files of the app's packages and of the named packages, which this process has imported."""
    others = [sys.modules[name].__file__ for name in set(names) - {"phi3_ui", "models"} if name in sys.modules]
    files = [Path(file) for file in others if file]
    folders = [file.parent if file.name == "__init__.py" else file for file in files]
    return [ROOT / "phi3_ui", ROOT / "models", *folders]


def build_environment(inherited: Mapping[str, str], folder: Path, variables: tuple[str, ...] = ()) -> dict[str, str]:
    """Return the environment of a process with the private folder `folder`: what it needs to compute, and `variables`."""
    kept = {name: value for name, value in inherited.items() if _KEPT_VARIABLES.fullmatch(name) or name in variables}
    cache_folder = _find_hub_cache(inherited)
    path = [str(folder / "lib"), *_list_python_path(inherited)]
    return {
        **kept,
        **TELEMETRY_OFF,
        "HOME": str(folder / "home"),
        "USERPROFILE": str(folder / "home"),
        "TMPDIR": str(folder / "tmp"),
        "TEMP": str(folder / "tmp"),
        "TMP": str(folder / "tmp"),
        "HF_HOME": str(folder / "home"),  # the app's own holds its token
        "HF_HUB_CACHE": str(cache_folder),
        "HF_HUB_OFFLINE": "1",  # a logged model is complete
        "PYTHONPATH": os.pathsep.join(path),
        "PYTHONSAFEPATH": "1",  # no modules from the working folder
        "PYTHONUNBUFFERED": "1",
    }


def _find_hub_cache(environment: Mapping[str, str]) -> Path:
    home = environment.get("HF_HOME") or Path.home() / ".cache" / "huggingface"
    return Path(environment.get("HF_HUB_CACHE") or Path(home) / "hub")


def _list_python_path(environment: Mapping[str, str]) -> list[str]:
    """Return the folders of PYTHONPATH without the app's own, which may hold its data as well."""
    folders = filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))
    given = [str(Path(folder).resolve()) for folder in folders if Path(folder).resolve() != ROOT]
    is_linked = os.name != "nt"
    return given if is_linked else [*given, str(ROOT)]


def _list_readable(folder: Path, grants: Grants) -> Iterator[str]:
    yield str(folder / "lib")
    if grants.model_folder:
        yield grants.model_folder
        # Weights on another disk than the inspected copy of the model are symbolic links to it.
        yield from (str(path.resolve()) for path in Path(grants.model_folder).rglob("*") if path.is_symlink())
    for entry in sys.path:  # includes user and system packages that a virtual environment may use
        if Path(entry).name in ("site-packages", "dist-packages"):
            yield entry
    yield from _list_python_path(os.environ)
    yield from filter(None, os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep))
    if grants.is_code:
        yield str(_find_hub_cache(os.environ))


def _remove_abandoned_folders() -> None:
    """Remove the private folders left behind by an app that was killed."""
    from filelock import FileLock, Timeout

    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*-*"):
        pid = folder.name.removeprefix(_PREFIX).partition("-")[0]
        if pid == str(os.getpid()):
            continue
        with contextlib.suppress(Timeout, OSError), FileLock(folder / _LOCK, blocking=False):
            shutil.rmtree(folder, ignore_errors=True)


@cache
def landlock_version() -> int:
    """Return the kernel's Landlock version; 0: not available, so that files and network cannot be denied to models."""
    if sys.platform != "linux":
        return 0
    import landlockpy

    return landlockpy.abi_version() if landlockpy.supported() else 0


@cache
def has_seccomp() -> bool:
    """Return whether the kernel can filter system calls on this architecture."""
    if sys.platform != "linux" or sys.maxsize < 1 << 32:  # 32-bit programs have other call numbers
        return False
    import seccompy

    try:
        return bool(seccompy.arch()) and seccompy.supported()
    except seccompy.UnsupportedError:
        return False


@cache
def warn_unless_isolated() -> None:
    """Log once what this machine cannot deny to models."""
    if not landlock_version():
        logger.warning(
            "This system has no Landlock: models' processes can read the files of the account that runs the app, and use "
            "the network. Only use models that you trust."
        )
    if not has_seccomp():
        logger.warning(
            "This system does not support seccomp, or is neither x86-64 nor ARM64: models' processes can use networks that "
            "Landlock does not control, start processes, and modify other processes of the same account. Only use models that you trust."
        )


def is_zero_gpu(environment: Mapping[str, str]) -> bool:
    """Return whether this is a ZeroGPU Space, which lends GPUs, by the same test as the package `spaces`."""
    return environment.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")


def address_space_limit() -> int | None:
    """Return the limit in bytes; None with a GPU driver, which reserves more than there is, and on systems other than Linux."""
    if sys.platform != "linux" or has_gpu_driver():
        return None
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") + EXTRA_ADDRESS_SPACE


def has_gpu_driver() -> bool:
    """Return whether CUDA or ROCm may be used."""
    return Path("/dev/nvidiactl").exists() or Path("/dev/kfd").exists()
