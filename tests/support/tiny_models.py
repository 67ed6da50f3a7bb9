"""Fixtures for tiny Phi-3 models: checkpoints and ONNX folders, built once and cached, and a store that contains them.

`python -m tests.support.tiny_models FOLDER` builds all variants. They are built in a separate process because the ONNX builder
is designed as a program and leaves global state behind.
"""

import subprocess
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import pytest

from models.presets import Origin
from models.tracking import Store
from phi3_ui.host.protocol import ModelSpec
from phi3_ui.paths import ROOT
from phi3_ui.store.registry.catalogue import Catalogue
from tests.support.build_cache import build_lock, cached_folder, create_store
from tests.support.tiny_phi3 import CONTEXT_LENGTH, END_TOKENS, make_checkpoint

LONG_CONTEXT_LENGTH = 131_072

_SOURCES = [
    "tests/support/tiny_phi3.py",
    "tests/support/tiny_models.py",
    "models/onnx_build.py",
    "models/checkpoint_facts.py",
    "models/chat_template.py",
    "models/template_environment.py",
    "models/template_process.py",
    "requirements.txt",
]


@dataclass(frozen=True)
class Variant:
    """Identifies a tiny model."""

    end_token: str | None = None
    """The special token that ends its answers; None if they never end by themselves."""
    context_length: int = CONTEXT_LENGTH
    """In tokens. If it exceeds CONTEXT_LENGTH, the RoPE factors switch at CONTEXT_LENGTH."""
    precision: str = "fp32"
    """The precision of the ONNX build."""

    def checkpoint_in(self, folder: Path) -> Path:
        return folder / f"{(self.end_token or 'none').strip('<|>')}-{self.context_length}" / "checkpoint"

    def onnx_in(self, folder: Path) -> Path:
        return self.checkpoint_in(folder).with_name(f"onnx-{self.precision}")


LONG_CONTEXT = Variant(context_length=LONG_CONTEXT_LENGTH)
PRECISIONS = ("int4", "int8", "fp16")
QUANTISED = ("int4", "int8")
VARIANTS = (
    *(Variant(token) for token in (None, *END_TOKENS)),
    LONG_CONTEXT,
    *(Variant("<|end|>", precision=precision) for precision in PRECISIONS),
    *(Variant(precision=precision) for precision in QUANTISED),
)


@dataclass(frozen=True)
class TinyModels:
    """The files of every variant."""

    folder: Path

    def checkpoint(self, variant: Variant) -> Path:
        return variant.checkpoint_in(self.folder)

    def onnx(self, variant: Variant) -> Path:
        return variant.onnx_in(self.folder)


@dataclass(frozen=True)
class TinyStore:
    """A store with a tiny model for each end token and for none, under both contracts."""

    uri: str
    model_ids: dict[tuple[str | None, str], str]
    """Model ids by end token and contract."""

    def spec(self, contract: str, end_token: str | None = None) -> ModelSpec:
        entry = Catalogue(self.uri).find(self.model_ids[end_token, contract])
        return ModelSpec(entry.model_id, entry.name, entry.uri, entry.contract, entry.tracking_uri, folder=entry.folder)

    def load(self, contract: str, end_token: str | None = None) -> Any:
        """Load the model as plain MLflow does."""
        mlflow.set_tracking_uri(self.uri)
        return mlflow.pyfunc.load_model(f"models:/{self.model_ids[end_token, contract]}")


@pytest.fixture(scope="session")
def tiny_models() -> TinyModels:
    with build_lock("tiny"):
        models = TinyModels(cached_folder("tiny", _SOURCES))
        if not all(models.onnx(variant).exists() for variant in VARIANTS):
            command = [sys.executable, "-m", "tests.support.tiny_models", str(models.folder)]
            build = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
            assert build.returncode == 0, build.stdout + build.stderr
    return models


@pytest.fixture(scope="session")
def tiny_checkpoint(tiny_models: TinyModels) -> Path:
    """The checkpoint of a model whose answers never end by themselves."""
    return tiny_models.checkpoint(Variant())


@pytest.fixture(scope="session")
def tiny_onnx(tiny_models: TinyModels) -> Path:
    """The same model as an fp32 ONNX folder."""
    return tiny_models.onnx(Variant())


@pytest.fixture(scope="session")
def tiny(tiny_models: TinyModels, tmp_path_factory: pytest.TempPathFactory) -> TinyStore:
    from models import log_onnx, log_pipeline

    home = tmp_path_factory.mktemp("tiny-store")
    store = Store(create_store(home), str(home / "artifacts"))
    origin = Origin(preset="", name="tiny", title="Tiny Phi-3", source="tests/tiny", license="mit")
    model_ids: dict[tuple[str | None, str], str] = {}
    options: dict[str, Any] = {"measured": False, "registering": False, "report": lambda *_: None}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's flavors warn about their own defaults
        for token in (None, *END_TOKENS):
            checkpoint, onnx = tiny_models.checkpoint(Variant(token)), tiny_models.onnx(Variant(token))
            model_ids[token, "chat"] = log_pipeline.log(checkpoint, origin, store, **options).model_id
            model_ids[token, "prompt"] = log_onnx.log(onnx, origin, "fp32", store, **options).model_id
    return TinyStore(store.tracking_uri, model_ids)


def _build_all(folder: Path) -> None:
    from models.onnx_build import build

    for variant in VARIANTS:
        checkpoint = variant.checkpoint_in(folder)
        if not checkpoint.exists():
            part = checkpoint.with_suffix(".part")
            make_checkpoint(part, variant.end_token, variant.context_length)
            part.replace(checkpoint)
        build(checkpoint, variant.onnx_in(folder), variant.precision, lambda *_: None)


if __name__ == "__main__":
    _build_all(Path(sys.argv[1]))
