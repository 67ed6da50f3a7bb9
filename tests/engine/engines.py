"""What the tests of the batched engine share: engines over small models, and requests to them."""

from pathlib import Path
from typing import Any

import numpy as np

from models.phi3_onnx import Phi3Onnx
from models.phi3_onnx_engine import OnnxFolder, Request, Token
from models.phi3_onnx_engine.batched import BatchedEngine
from models.phi3_onnx_engine.graph import rewrite_graph

BUDGET = 60_000_000


def open_batched(folder: Path, budget: int = BUDGET) -> BatchedEngine:
    declared = OnnxFolder(folder)
    return BatchedEngine(declared, rewrite_graph(declared.graph), 1, budget)


def load(folder: Path, choice: Any = "batched") -> Phi3Onnx:
    wrapper = Phi3Onnx()
    wrapper.load(folder, threads=1, cache_mb=60, choice=choice)
    return wrapper


def request(prompt: list[int], tokens: int, is_reproducible: bool = False) -> Request:
    return Request(prompt, tokens, lambda logits: int(logits.argmax()), frozenset(), is_reproducible)


def tokens_of(events: Any) -> list[int]:
    return [event.id for event in events if isinstance(event, Token)]


def numbers(seed: int, count: int) -> list[int]:
    return [int(one) for one in np.random.default_rng(seed).integers(10, 600, count)]
