"""What an ONNX Runtime GenAI folder declares about its model."""

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
"""The rewritten graph (see graph.py) beside the one it was made from: the first of its segments."""
SEGMENTS = "segments"
"""A property of the first segment: how many there are (see segments.py)."""
ROPE_CACHES = "model.batched.data"
"""The rotary caches of a rewritten LongRoPE model, which all segments read."""
LONG_ROPE_OFFSET = "long_rope_offset"
"""A property of the rewritten model: where the long factors' rows begin in the rotary cache; missing without LongRoPE."""

_MODEL_NUMBERS = {"context_length": 1 << 24, "vocab_size": 1 << 24}
_DECODER_NUMBERS = {"num_hidden_layers": 1 << 10, "num_key_value_heads": 1 << 10, "head_size": 1 << 12}
"""The most that each may be; memory is taken by them."""


class UnfitGraphError(ValueError):
    """The graph cannot be rewritten, or is not the one that the folder declares; the message says why."""


@dataclass(frozen=True)
class BatchedGraph:
    """A rewritten model."""

    segments: list[bytes]
    """ONNX models, to be run one after another."""
    rope_caches: dict[str, npt.NDArray[np.float32]]
    """The rotary caches that all of them read, by the names of their tensors; empty without LongRoPE."""

    @property
    def rope_file(self) -> bytes:
        """The contents of ROPE_CACHES."""
        return b"".join(cache.tobytes() for cache in self.rope_caches.values())


@dataclass(frozen=True)
class OnnxFolder:
    """A folder with genai_config.json. OSError, ValueError or KeyError if it cannot be read."""

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
        """ValueError, one sentence, if what the engines take from genai_config.json is missing or out of range."""
        try:
            model, decoder = self.model, self.decoder
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{_damaged(self.path)}: it has no section model.decoder.") from error
        for section, numbers in ((model, _MODEL_NUMBERS), (decoder, _DECODER_NUMBERS)):
            for name, most in numbers.items():
                number = section.get(name)
                if type(number) is not int or not 1 <= number <= most:
                    found = f"{name} is {number!r:.40}"
                    raise ValueError(f"{_damaged(self.path)}: {found}, not a whole number from 1 to {most:,}.")
        eos = model.get("eos_token_id")
        if not all(type(one) is int for one in (eos if isinstance(eos, list) else [eos])):
            raise ValueError(f"{_damaged(self.path)}: eos_token_id is {eos!r:.40}, not a number or a list of numbers.")
        for section, name in ((model, "type"), (decoder, "filename")):
            if not isinstance(section.get(name), str):
                raise ValueError(f"{_damaged(self.path)}: {name} is {section.get(name)!r:.40}, not a text.")

    @property
    def graph(self) -> Path:
        """The decoder's ONNX file."""
        return self.path / str(self.decoder["filename"])

    def batched_graph(self, number: int = 1) -> Path:
        """The segment with this number of the rewritten graph, from 1 on, if it is there."""
        return self.path / (BATCHED_GRAPH if number == 1 else f"model.batched.{number}.onnx")

    @property
    def rope_caches(self) -> Path:
        """The rotary caches beside the rewritten graph of a LongRoPE model."""
        return self.path / ROPE_CACHES

    @property
    def is_for_cpu(self) -> bool:
        """Whether it was built for the CPU: it names no other execution provider."""
        return not self.decoder.get("session_options", {}).get("provider_options")

    @property
    def context_length(self) -> int:
        """Tokens that a prompt and its answer may have together."""
        return int(self.model["context_length"])

    @property
    def end_ids(self) -> frozenset[int]:
        """The ids of the tokens that end an answer."""
        eos = self.model["eos_token_id"]
        return frozenset(eos if isinstance(eos, list) else [eos])

    @property
    def token_numbers(self) -> int:
        """How many numbers the keys and values of one token are."""
        decoder = self.decoder
        return int(2 * decoder["num_hidden_layers"] * decoder["num_key_value_heads"] * decoder["head_size"])

    @property
    def switches_rope(self) -> bool:
        """The model switches its LongRoPE factors past SHORT_ROPE_LENGTH tokens."""
        return bool(self.model["type"] == "phi3" and self.context_length > SHORT_ROPE_LENGTH)


def _damaged(folder: Path) -> str:
    return f"genai_config.json of {folder.name} is damaged"


def usable_cpus() -> int:
    """The number of CPUs this process may use; OMP_NUM_THREADS, with which schedulers limit a process, may make it fewer."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = os.environ.get("OMP_NUM_THREADS", "")
    return min(count, int(limit) or count) if limit.isdecimal() else count


def memory_budget() -> int:
    """An eighth of the machine's memory or of the control group's limit, in bytes; 2 GiB where neither can be read."""
    limits = []
    try:
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
        with open("/sys/fs/cgroup/memory.max", encoding="ascii") as file:
            limits.append(int(file.read()))
    except (AttributeError, OSError, ValueError):
        pass  # another operating system, or no limit ("max")
    return (min(limits) if limits else 16 << 30) // 8
