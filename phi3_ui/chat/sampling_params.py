"""The sampling parameters, declared once: the page's controls, the command line's options and all validation use this table.

The ONNX wrapper must be self-contained in its artifact, so it repeats names, defaults and ranges; a test compares the two.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from phi3_ui.chat.types import GenerationParams
from phi3_ui.errors import UserError

MAX_STOP_STRINGS = 16
MAX_SEED = 2**31 - 1

ParamKind = Literal["int", "float", "strings"]
ParamValue = int | float | tuple[str, ...] | None


@dataclass(frozen=True)
class Slider:
    """The range that the page offers, narrower than the valid one where larger values are useless."""

    minimum: float
    maximum: float
    step: float


@dataclass(frozen=True)
class SamplingParam:
    """One field of GenerationParams."""

    name: str
    kind: ParamKind
    default: ParamValue
    """The initial value of the page's control, and the ONNX wrapper's default if the parameter is not passed."""
    minimum: float = -math.inf
    maximum: float = math.inf
    is_minimum_exclusive: bool = False
    slider: Slider | None = None
    """None: the page has a text or number field, which may be empty."""
    label_key: str = ""
    """Translation key of the control's label."""
    help_key: str | None = None
    """Translation key of the text below the control."""

    @property
    def python_type(self) -> type:
        """The type of a single value, for a command line option."""
        return {"int": int, "float": float, "strings": str}[self.kind]

    @property
    def interval(self) -> str:
        """The valid range in mathematical notation, the same in every language."""
        if self.kind == "strings":
            return f"0 – {MAX_STOP_STRINGS}"
        if math.isfinite(self.maximum) and not self.is_minimum_exclusive:
            return f"{self.minimum:g} – {int(self.maximum) if self.kind == 'int' else format(self.maximum, 'g')}"
        lower = f"{'>' if self.is_minimum_exclusive else '≥'} {self.minimum:g}"
        return f"{lower}, ≤ {self.maximum:g}" if math.isfinite(self.maximum) else lower

    def is_valid(self, value: Any) -> bool:
        """Return whether `value` is of the right type and in range. None, which means the model's default, always is."""
        if value is None:
            return True
        if self.kind == "strings":
            return (
                isinstance(value, tuple)
                and len(value) <= MAX_STOP_STRINGS
                and all(isinstance(text, str) and text for text in value)
            )
        if isinstance(value, bool) or not isinstance(value, int if self.kind == "int" else int | float):
            return False
        above = value > self.minimum if self.is_minimum_exclusive else value >= self.minimum
        return above and value <= self.maximum and math.isfinite(value)

    def parse(self, raw: Any) -> ParamValue:
        """Parse the value of a control, a form field or a JSON field; blank or None means the model's default.

        Raises:
            UserError: invalid_param, or bad_seed for the seed.
        """
        try:
            value: ParamValue = self._convert(raw)
            if self.is_valid(value):
                return value
        except (TypeError, ValueError, OverflowError):
            pass  # not a number: reported below like a number out of range
        shown = str(raw).strip()[:100]
        if self.name == "seed":
            raise UserError("bad_seed", value=shown)
        raise UserError("invalid_param", name=self.name, value=shown, range=self.interval)

    def _convert(self, raw: Any) -> Any:
        if self.kind == "strings":
            lines = re.split(r"\r\n|\r|\n", raw) if isinstance(raw, str) else () if raw is None else raw
            if not isinstance(lines, list | tuple):
                raise TypeError("not a list of strings")
            return tuple(line for line in lines if line)
        if raw is None or (isinstance(raw, str) and not raw.strip()):
            return None
        if self.kind == "float" or isinstance(raw, bool):
            return raw if isinstance(raw, bool) else float(raw)
        if isinstance(raw, str):
            return int(raw.strip()) if raw.strip().isdecimal() else raw
        return int(raw) if float(raw).is_integer() else raw

    @property
    def control_default(self) -> Any:
        """The default as the control's value: stop strings and an empty field as text."""
        return self.to_control(self.default)

    def to_control(self, value: ParamValue) -> Any:
        """Convert a value to that of the control."""
        if self.kind == "strings":
            return "\n".join(value) if isinstance(value, tuple) else ""
        # An empty number field shows 0, so the seed is a text field.
        return ("" if value is None else str(value)) if self.name == "seed" else value

    def restore_control(self, raw: Any) -> Any:
        """Return the control's value from saved state; the default if that is invalid or out of the control's range."""
        try:
            value = self.parse(raw)
        except UserError:
            return self.control_default
        if self.slider and not (isinstance(value, int | float) and self.slider.minimum <= value <= self.slider.maximum):
            return self.control_default
        return self.to_control(value)


SAMPLING_PARAMS: tuple[SamplingParam, ...] = (
    SamplingParam(
        "temperature",
        "float",
        0.2,
        minimum=0,
        slider=Slider(0, 2, 0.05),
        label_key="temperature",
        help_key="temperature_info",
    ),
    SamplingParam(
        "top_p",
        "float",
        0.95,
        minimum=0,
        maximum=1,
        is_minimum_exclusive=True,
        slider=Slider(0.05, 1, 0.05),
        label_key="top_p",
    ),
    SamplingParam(
        "max_tokens",
        "int",
        512,
        minimum=1,
        slider=Slider(1, 4096, 1),
        label_key="max_tokens",
    ),
    SamplingParam(
        "top_k",
        "int",
        50,
        minimum=0,
        label_key="top_k",
        help_key="top_k_info",
    ),
    SamplingParam(
        "stop",
        "strings",
        (),
        label_key="stop_strings",
        help_key="stop_info",
    ),
    SamplingParam(
        "seed",
        "int",
        None,
        minimum=0,
        maximum=MAX_SEED,
        label_key="seed",
        help_key="seed_info",
    ),
    SamplingParam(
        "repetition_penalty",
        "float",
        1.0,
        minimum=0,
        is_minimum_exclusive=True,
        slider=Slider(1, 2, 0.05),
        label_key="repetition_penalty",
        help_key="repetition_penalty_info",
    ),
    SamplingParam(
        "presence_penalty",
        "float",
        0.0,
        minimum=-2,
        maximum=2,
        slider=Slider(-2, 2, 0.1),
        label_key="presence_penalty",
    ),
    SamplingParam(
        "frequency_penalty",
        "float",
        0.0,
        minimum=-2,
        maximum=2,
        slider=Slider(-2, 2, 0.1),
        label_key="frequency_penalty",
    ),
)
"""All sampling parameters, in the order of the page's controls and of its public endpoint's parameters."""


def parse_params(values: Mapping[str, Any], supported: frozenset[str] | set[str] | None = None) -> GenerationParams:
    """Parse sampling parameters from raw values by name. Unknown names and those that a model does not support are ignored.

    Raises:
        UserError: invalid_param or bad_seed.
    """
    parsed = {
        param.name: param.parse(values[param.name])
        for param in SAMPLING_PARAMS
        if param.name in values and (supported is None or param.name in supported)
    }
    return GenerationParams(**parsed)  # type: ignore[arg-type]  # each value has the type that the table declares


def find_invalid_param(params: GenerationParams) -> SamplingParam | None:
    """Return the first parameter whose value is invalid, if any."""
    return next((param for param in SAMPLING_PARAMS if not param.is_valid(getattr(params, param.name))), None)
