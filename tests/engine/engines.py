"""Helpers for tests of the batched engine: engines for small models, and requests."""

from pathlib import Path
from typing import Any

import numpy as np

from models.phi3_onnx import Phi3Onnx
from models.phi3_onnx_engine import OnnxFolder, Request, Token
from models.phi3_onnx_engine.batched import BatchedEngine
from models.phi3_onnx_engine.graph import rewrite_graph

BUDGET = 60_000_000


def open_batched(folder: Path, budget: int = BUDGET) -> BatchedEngine:
    onnx_folder = OnnxFolder(folder)
    return BatchedEngine(onnx_folder, rewrite_graph(onnx_folder.graph), 1, budget)


def load_wrapper(folder: Path, choice: Any = "batched") -> Phi3Onnx:
    wrapper = Phi3Onnx()
    wrapper.load(folder, threads=1, cache_mb=60, choice=choice)
    return wrapper


def make_request(prompt: list[int], tokens: int, is_reproducible: bool = False) -> Request:
    return Request(prompt, tokens, lambda logits: int(logits.argmax()), frozenset(), is_reproducible)


def get_token_ids(events: Any) -> list[int]:
    return [event.id for event in events if isinstance(event, Token)]


def random_ids(seed: int, count: int) -> list[int]:
    return [int(token) for token in np.random.default_rng(seed).integers(10, 600, count)]
