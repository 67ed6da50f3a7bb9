"""The sandbox of a model's process, tested by attacks from inside."""

import json
import os
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import mlflow
import pytest
from filelock import FileLock
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema

from phi3_ui.chat.types import CancelToken, ChatRequest, Completed, Message
from phi3_ui.errors import UserError
from phi3_ui.host import model_process, sandbox_policy
from phi3_ui.host.hosted_model import HostedModel
from phi3_ui.host.protocol import ModelSpec, pack_spec
from phi3_ui.host.sandbox_policy import TrustLevel
from phi3_ui.host.seccomp_filter import DENIED
from phi3_ui.paths import ROOT
from phi3_ui.store.registry.catalogue import Catalogue
from phi3_ui.store.registry.doctor import check_isolation
from tests.support.build_cache import create_store

pytestmark = pytest.mark.engine  # a process that imports MLflow for each model

_SECRETS = {
    "HF_TOKEN": "s3cret",
    "AWS_SECRET_ACCESS_KEY": "s3cret",
    "MLFLOW_TRACKING_PASSWORD": "s3cret",
    "PHI3_UI_LOGINS": "ana:s3cret",
    "HTTPS_PROXY": "http://ana:s3cret@proxy:1",
    "OPENAI_API_KEY": "s3cret",
}
_ALLOWED = "MODEL_SETTING"


def is_isolated() -> bool:
    """Return whether this kernel can block all attacks. If not, the doctor must report it."""
    version = sandbox_policy.landlock_version()
    codes = {finding.code for finding in check_isolation()} - {"unfiltered"}
    assert codes == (set() if version >= 6 else {"partly_isolated"} if version else {"not_isolated"})
    return version >= 6


@dataclass(frozen=True)
class Attacks:
    """A running model that attacks, and the results."""

    level: TrustLevel
    uses_zero_gpu: bool
    hosted: HostedModel
    outcomes: dict[str, str]
    store: Path

    def failed(self, *names: str) -> dict[str, str]:
        """Return those of the named attacks that succeeded."""
        return {name: self.outcomes[name] for name in names if self.outcomes[name].startswith("done")}


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ModelSpec, Path]]:
    """The attacking model in a store, and a server and a socket that it tries to reach."""
    folder = tmp_path_factory.mktemp("attacked")
    uri = create_store(folder)
    (folder / "to-be-deleted").touch()
    (folder / "canary").touch(mode=0o600)
    mlflow.set_tracking_uri(uri)
    abstract = f"phi3-attack-{os.getpid()}"
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.socket(socket.AF_UNIX) as unix,
        socket.socket(socket.AF_UNIX) as socket_file,
        tempfile.TemporaryDirectory() as short_path,
    ):
        if sys.platform == "linux":
            unix.bind(f"\0{abstract}")
            unix.listen()
        socket_file.bind(f"{short_path}/socket")
        socket_file.listen()
        config = {
            "store": str(folder / "mlflow.db"),
            "port": server.getsockname()[1],
            "socket": abstract,
            "unix": f"{short_path}/socket",
            "denied": sorted(DENIED),
            "file": sandbox_policy.MAX_FILE_BYTES,
            "memory": (sandbox_policy.address_space_limit() or 0) + 1,
        }
        experiment = mlflow.create_experiment("attacks", artifact_location=(folder / "artifacts").as_uri())
        with mlflow.start_run(experiment_id=experiment):
            text = Schema([ColSpec(DataType.string)])
            mlflow.pyfunc.log_model(
                name="attacker",
                python_model=str(ROOT / "tests" / "support" / "attacking_model.py"),
                model_config=config,
                signature=ModelSignature(text, text),
                pip_requirements=[],
            )
        (entry,) = Catalogue(uri).list_models()
        yield (
            ModelSpec(entry.model_id, entry.name, entry.uri, entry.contract, uri, "phi-3", folder=entry.folder),
            folder / "mlflow.db",
        )


def _ask(hosted: HostedModel, question: str) -> str:
    *_, end = hosted.answer(ChatRequest((Message("user", question),), template="phi-3"), CancelToken())
    assert isinstance(end, Completed)
    return end.text


@pytest.fixture(scope="module", params=[*get_args(TrustLevel), "data_only on ZeroGPU"])
def attacks(
    request: pytest.FixtureRequest, spec: tuple[ModelSpec, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Attacks]:
    level: TrustLevel = request.param.partition(" ")[0]
    uses_zero_gpu = level != request.param
    with pytest.MonkeyPatch.context() as patch:
        if uses_zero_gpu:  # as for a pipeline
            grant = model_process._grants
            patch.setattr(model_process, "_grants", lambda *arguments: replace(grant(*arguments), uses_zero_gpu=True))
        for name, value in _SECRETS.items():
            patch.setenv(name, value)
        patch.setenv(_ALLOWED, "7")
        chosen_spec = replace(spec[0], level=level, variables=(_ALLOWED,))
        # as if admission had granted this level
        hosted = HostedModel(chosen_spec, tmp_path_factory.mktemp("logs"), nullcontext)
        hosted.ready.result(timeout=300)
    yield Attacks(level, uses_zero_gpu, hosted, json.loads(_ask(hosted, "Attack!")), spec[1])
    hosted.unload()
    assert not Path(hosted.own_folder).exists()


def test_the_store_cannot_be_reached(attacks: Attacks) -> None:
    if not is_isolated():
        return
    assert not attacks.failed(
        "read the store",
        "read it through /proc",
        "read it through a symbolic link",
        "read it through a hard link",
        "write to the store",
        "empty the store",
        "delete the store",
        "write beside the store",
        "list the store's folder",
        "change its own model",
    )
    assert attacks.store.stat().st_size > 0
    assert attacks.store.with_name("to-be-deleted").exists()


def test_the_app_and_the_account_cannot_be_reached(attacks: Attacks) -> None:
    if not is_isolated():
        return
    assert not attacks.failed(
        "read the parent's environment",
        "read the parent's memory",
        "signal the parent",
        "read the home folder",
        "read shadow passwords",
        "connect to an abstract socket",
        "raise its limits",
        "become another user",
    )
    assert attacks.outcomes["gain privileges"] == "done: False"


def test_only_approved_code_may_use_the_network_and_start_programs(attacks: Attacks) -> None:
    if not is_isolated():
        return
    succeeded = attacks.failed("connect to a server", "listen", "start a program")
    network = {"connect to a server", "listen"} if attacks.level == "code" or attacks.uses_zero_gpu else set()
    assert set(succeeded) == network | ({"start a program"} if attacks.level == "code" else set())


CALLS = {
    "call what is newer",
    "call as x32",
    "connect with Multipath TCP",
    "connect with TCP Fast Open",
    "send over UDP",
    "listen without bind",
    "ask the kernel over netlink",
    "talk to the machine below",
    "start a process",
    "run a program from memory",
    "outlive the app",
    "outlive the app, with more bits",
    "signal through a pipe",
    "signal through a socket",
    "signal through a socket otherwise",
    "signal through a socket, with more bits",
    "open a file to neither read nor write",
    "open a file so with openat2",
    "lease a file of the store",
    "lease its own code",
    "watch a folder",
    "empty a file by its name",
    "empty a file that it reads",
    "type into a terminal",
    "open the parent",
    "trace the parent",
    "change the parent's limits",
    "change the parent's priority",
    "change the parent's processors",
    "change permissions",
    "change the permissions of its own code",
    "change the owner",
    "change times",
    "change an attribute",
    "change flags",
    "watch the store",
    "name the store",
    "see shared memory",
    "see queues",
    "use io_uring",
    "load a kernel program",
    "catch page faults",
    "measure the kernel",
    "mount",
    "open a mount",
    "be root in a namespace",
    "start a root in a namespace",
    "keep a key",
}
WORKER_CALLS = {
    *("connect with Multipath TCP", "connect with TCP Fast Open", "send over UDP", "listen without bind"),
    *("start a process", "connect to a socket file"),
}
"""System calls allowed to a process that requests a GPU and forks the workers that use it."""
SOCKET_FILES = {"connect to a socket file", "send to a socket file"}
"""CUDA needs them, on systems with a GPU."""


def test_system_calls_beyond_landlock_are_denied(attacks: Attacks) -> None:
    if not sandbox_policy.has_seccomp():
        return
    succeeded = attacks.failed(*CALLS, *SOCKET_FILES)
    if attacks.uses_zero_gpu:
        assert set(succeeded) <= WORKER_CALLS | SOCKET_FILES
        return
    if attacks.level == "code":  # without the filter, the same attacks succeed
        assert {"start a process", "change permissions", "change times", "change the parent's limits"} <= set(succeeded)
        return
    assert set(succeeded) <= (SOCKET_FILES if sandbox_policy.has_gpu_driver() else set())
    unknown = {"call what is newer", "call as x32", "open a file so with openat2"}  # ENOSYS
    assert {name for name in CALLS if attacks.outcomes[name] != "PermissionError"} == unknown
    called: list[str] = json.loads(_ask(attacks.hosted, "call"))
    assert not called or sandbox_policy.has_gpu_driver()


def test_no_descriptor_is_inherited(attacks: Attacks) -> None:
    assert attacks.outcomes["write to the store's descriptor"] == "LookupError"
    links: dict[str, str] = json.loads(attacks.outcomes["see its descriptors"].removeprefix("done: "))
    others = {link for link in links.values() if not link.startswith(("pipe:", "/proc/", "/dev/", "anon_inode:"))}
    assert others <= {str(attacks.hosted.log), f"{attacks.hosted.own_folder}/work/mlflow.db"}


def test_the_environment_holds_no_secret(attacks: Attacks) -> None:
    assert "s3cret" not in attacks.outcomes["see its first environment"]
    names = set(json.loads(attacks.outcomes["see its environment"].removeprefix("done: ")))
    assert not names & set(_SECRETS)
    assert ("MLFLOW_ALLOW_PICKLE_DESERIALIZATION" in names) == (attacks.level != "code")
    assert (_ALLOWED in names) == (attacks.level == "code")
    assert {"PATH", "HOME", "TMPDIR", "HF_HUB_OFFLINE", "ORT_DISABLE_TELEMETRY"} <= names


def test_a_model_works_in_its_own_folder(attacks: Attacks) -> None:
    assert attacks.outcomes["see its working folder"] == f"done: {attacks.hosted.own_folder}/work"
    assert attacks.outcomes["write into its working folder"].startswith("done")


def test_files_and_memory_are_limited_and_the_model_continues(attacks: Attacks) -> None:
    assert attacks.outcomes["write a huge file"] == "OSError"
    if attacks.level == "code" and sandbox_policy.address_space_limit():
        with pytest.raises(UserError, match="could not answer") as raised:
            _ask(attacks.hosted, "allocate")
        assert str(raised.value).count("\n") == 0
        assert attacks.hosted.is_alive


def test_the_process_does_not_get_the_stores_address(spec: tuple[ModelSpec, Path]) -> None:
    secret = replace(spec[0], tracking_uri="https://ana:s3cret@store")
    assert "s3cret" not in json.dumps(pack_spec(secret))


def test_the_environment_contains_only_allowed_variables(tmp_path: Path) -> None:
    inherited = {"PATH": "/bin", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "0", "LC_ALL": "C", **_SECRETS}
    environment = sandbox_policy.build_environment(inherited, tmp_path)
    assert {"PATH", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "LC_ALL"} <= environment.keys()
    assert not environment.keys() & _SECRETS.keys()


def test_a_system_without_landlock_is_reported_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sandbox_policy, "landlock_version", lambda: 0)
    sandbox_policy.warn_unless_isolated.cache_clear()
    sandbox_policy.warn_unless_isolated()
    sandbox_policy.warn_unless_isolated()
    assert caplog.text.count("has no Landlock") == 1
    sandbox_policy.warn_unless_isolated.cache_clear()


def test_a_system_without_seccomp_is_reported_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sandbox_policy, "landlock_version", lambda: 6)
    monkeypatch.setattr(sandbox_policy, "has_seccomp", lambda: False)
    sandbox_policy.warn_unless_isolated.cache_clear()
    sandbox_policy.warn_unless_isolated()
    assert caplog.text.count("does not support seccomp") == 1
    assert "has no Landlock" not in caplog.text
    sandbox_policy.warn_unless_isolated.cache_clear()


def test_folders_of_killed_apps_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    abandoned, locked = tmp_path / "phi3-model-1-x", tmp_path / "phi3-model-2-x"
    for folder in (abandoned, locked):
        folder.mkdir()
    with FileLock(locked / "lock"):
        sandbox_policy._remove_abandoned_folders()
        assert [*tmp_path.iterdir()] == [locked]


def test_weights_linked_from_a_models_copy_are_readable(tmp_path: Path) -> None:
    (tmp_path / "weights.safetensors").write_bytes(b"")
    (tmp_path / "copy" / "model").mkdir(parents=True)
    (tmp_path / "copy" / "model" / "model.safetensors").symlink_to(tmp_path / "weights.safetensors")
    with sandbox_policy.prepare(sandbox_policy.Grants(str(tmp_path / "copy"), "data_only")) as policy:
        assert str(tmp_path / "weights.safetensors") in policy.readable
        assert str(tmp_path) not in policy.readable
