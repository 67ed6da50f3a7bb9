"""Read the declarations of an ONNX Runtime GenAI folder about its model."""

import json
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .engine import SHORT_ROPE_LENGTH

BATCHED_GRAPH = "model.batched.onnx"
"""The first segment of the rewritten graph (see graph.py), beside the original graph."""
SEGMENTS = "segments"
"""A property of the first segment: the number of segments (see segments.py)."""
ROPE_CACHES = "model.batched.data"
"""The rotary caches of a rewritten LongRoPE model, read by all segments."""
LONG_ROPE_OFFSET = "long_rope_offset"
"""A property of the rewritten model: the offset of the long factors' rows in the rotary cache; missing without LongRoPE."""

_MODEL_NUMBERS = {"context_length": 1 << 24, "vocab_size": 1 << 24}
_DECODER_NUMBERS = {"num_hidden_layers": 1 << 10, "num_key_value_heads": 1 << 10, "head_size": 1 << 12}
"""Upper limits, since these numbers determine memory allocations."""


class UnfitGraphError(ValueError):
    """The graph cannot be rewritten, or is not the one that the folder declares; the message is the reason."""


@dataclass(frozen=True)
class BatchedGraph:
    """A rewritten model."""

    segments: list[bytes]
    """ONNX models, to be run in sequence."""
    rope_caches: dict[str, npt.NDArray[np.float32]]
    """The rotary caches read by all segments, by tensor name; empty without LongRoPE."""

    @property
    def rope_file(self) -> bytes:
        """The content of the file ROPE_CACHES."""
        return b"".join(cache.tobytes() for cache in self.rope_caches.values())


@dataclass(frozen=True)
class OnnxFolder:
    """A folder with genai_config.json. Its properties raise OSError, ValueError or KeyError if that cannot be read."""

    path: Path

    @cached_property
    def model(self) -> dict[str, Any]:
        """The section `model` of genai_config.json."""
        content = json.loads((self.path / "genai_config.json").read_text(encoding="utf-8"))
        return dict(content["model"])

    @property
    def decoder(self) -> dict[str, Any]:
        """The section `model.decoder`."""
        return dict(self.model["decoder"])

    def check(self) -> None:
        """Raise ValueError, with one sentence, if a value that the engines need from genai_config.json is missing or out of range."""
        try:
            model, decoder = self.model, self.decoder
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{_describe_damage(self.path)}: it has no section model.decoder.") from error
        for section, numbers in ((model, _MODEL_NUMBERS), (decoder, _DECODER_NUMBERS)):
            for name, limit in numbers.items():
                number = section.get(name)
                if type(number) is not int or not 1 <= number <= limit:
                    found = f"{name} is {number!r:.40}"
                    raise ValueError(f"{_describe_damage(self.path)}: {found}, not an integer from 1 to {limit:,}.")
        eos = model.get("eos_token_id")
        if not all(type(one) is int for one in (eos if isinstance(eos, list) else [eos])):
            raise ValueError(
                f"{_describe_damage(self.path)}: eos_token_id is {eos!r:.40}, not a number or a list of numbers."
            )
        for section, name in ((model, "type"), (decoder, "filename")):
            if not isinstance(section.get(name), str):
                raise ValueError(f"{_describe_damage(self.path)}: {name} is {section.get(name)!r:.40}, not a string.")

    @property
    def graph(self) -> Path:
        """The decoder's ONNX file."""
        return self.path / str(self.decoder["filename"])

    def batched_graph(self, number: int = 1) -> Path:
        """Return the path of a segment of the rewritten graph, counted from 1; it need not exist."""
        return self.path / (BATCHED_GRAPH if number == 1 else f"model.batched.{number}.onnx")

    @property
    def rope_caches(self) -> Path:
        """The path of the rotary caches beside the rewritten graph of a LongRoPE model."""
        return self.path / ROPE_CACHES

    @property
    def is_for_cpu(self) -> bool:
        """Whether the model was built for the CPU, that is, names no other execution provider."""
        return not self.decoder.get("session_options", {}).get("provider_options")

    @property
    def context_length(self) -> int:
        """Maximum number of tokens of a prompt and its answer together."""
        return int(self.model["context_length"])

    @property
    def end_ids(self) -> frozenset[int]:
        """The ids of the tokens that end an answer."""
        eos = self.model["eos_token_id"]
        return frozenset(eos if isinstance(eos, list) else [eos])

    @property
    def token_numbers(self) -> int:
        """Count of numbers in the keys and values of one token."""
        decoder = self.decoder
        return int(2 * decoder["num_hidden_layers"] * decoder["num_key_value_heads"] * decoder["head_size"])

    @property
    def switches_rope(self) -> bool:
        """Whether the model switches its LongRoPE factors past SHORT_ROPE_LENGTH tokens."""
        return bool(self.model["type"] == "phi3" and self.context_length > SHORT_ROPE_LENGTH)


def _describe_damage(folder: Path) -> str:
    return f"genai_config.json of {folder.name} is damaged"


def usable_cpus() -> int:
    """Return the number of CPUs that this process may use, limited by OMP_NUM_THREADS, which job schedulers set."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = os.environ.get("OMP_NUM_THREADS", "")
    return min(count, int(limit) or count) if limit.isdecimal() else count


def memory_budget() -> int:
    """Return an eighth of the machine's memory or of the control group's limit, in bytes; 2 GiB if neither can be read."""
    limits = []
    try:
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
        with open("/sys/fs/cgroup/memory.max", encoding="ascii") as file:
            limits.append(int(file.read()))
    except (AttributeError, OSError, ValueError):
        pass  # another operating system, or no limit ("max")
    return (min(limits) if limits else 16 << 30) // 8
