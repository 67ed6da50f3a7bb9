"""A store with all third-party models, logged once and cached. Tests use copies of its database."""

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from phi3_ui.paths import ROOT
from tests.support.build_cache import build_lock, cached_folder, create_store

_SOURCES = [f"tests/support/{name}.py" for name in ("third_party_models", "echo_model", "tiny_phi3")]


@dataclass(frozen=True)
class ThirdPartyStore:
    """The models of tests/support/third_party_models.py in the experiment `theirs`."""

    folder: Path
    logged: dict[str, dict[str, str]]
    """Model ids by name: of the chat models ("chat") and of the others ("other")."""

    @property
    def shared(self) -> Path:
        """The folder that the model `chunks` writes to."""
        return self.folder / "shared"

    def copy_to(self, home: Path) -> str:
        """Copy the store to `home` without the models' files, which it references in place, and return its URI."""
        shutil.copy(self.folder / "mlflow.db", home / "mlflow.db")
        return f"sqlite:///{home / 'mlflow.db'}"


@pytest.fixture(scope="session")
def third_party_store() -> ThirdPartyStore:
    with build_lock("third-party"):
        folder = cached_folder("third-party", [*_SOURCES, "requirements.txt"]).resolve()
        index = folder / "logged.json"
        if not index.exists():
            (folder / "shared").mkdir(exist_ok=True)
            uri = create_store(folder, "theirs")
            command = [sys.executable, "-W", "ignore", "-m", "tests.support.third_party_models", uri, str(folder)]
            done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
            index.write_text(done.stdout.splitlines()[-1], encoding="utf-8")
    return ThirdPartyStore(folder, json.loads(index.read_text(encoding="utf-8")))
