"""The Transformers pipeline on a GPU, with random weights: answers as on the CPU, and speed at the size of Phi-3-mini.

`python -m bench.gpu`; with `--device cpu`, a rehearsal without a GPU, at a small size.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.rows import Row, print_header, print_row
from models.chat_template import declare_confined
from phi3_ui.chat.types import CancelToken, ChatRequest, Completed, GenerationParams, Message, PrefillProgress
from phi3_ui.contracts.base import Adapter
from phi3_ui.host.protocol import ModelSpec

_STORY = "Write a short story about a lighthouse, a storm, and the woman who kept the lamp burning all night."
_TURNS = 10
_TOKENS = 64
_CHUNKS = (128, 256, 512, 1024, 2048)
_MINI = {"hidden_size": 3072, "intermediate_size": 8192, "num_hidden_layers": 32, "heads": 32}
_SMALL = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, "heads": 4}


def measure_rows(home: Path, device: str) -> Iterator[Row]:
    from tests.support.tiny_phi3 import make_checkpoint

    spec = _log(make_checkpoint(home / "tiny"), home, "tiny")
    yield from compare_with_cpu(spec, device)
    big = _log(make_big_checkpoint(home / "big", device), home, "big")
    model = _load(big, device)
    yield Row(
        "Phi-3-mini's size: place of the weights", str(_raw(model).device), device, _raw(model).device.type == device
    )
    cached, alone = measure_chat(model), measure_chat(_load(replace(big, cache_mb=1), device))
    ratio = cached[0] / alone[0]
    yield Row(f"first token of turn {_TURNS} with the KV cache ÷ without", f"{ratio:.2f}", "< 1", ratio < 1)
    rate = cached[1] * measure_generate(model)
    yield Row("decode ÷ plain generate", f"{rate:.2f}", "≥ 0.95", rate >= 0.95)
    yield Row("decode", f"{cached[1]:.1f} tokens/s")
    yield from measure_chunks(model)


def compare_with_cpu(spec: ModelSpec, device: str) -> Iterator[Row]:
    """Compare a chat in fp32 and greedy decoding with the same chat on the CPU."""
    model, reference = _load(spec, device), _load(spec, "cpu")
    history, same, reused, previous = list[str](), 0, 0, 0
    for turn in range(4):
        history.append(f"{_STORY} Part {turn}.")
        end, found = _ask(model, history)
        expected, _ = _ask(reference, history)
        assert end.usage
        assert expected.usage
        same += (end.text, end.usage.prompt_tokens) == (expected.text, expected.usage.prompt_tokens)
        reused += turn == 0 or previous <= (end.usage.cached_tokens or 0) == found
        previous = end.usage.prompt_tokens  # the random answer may be tokenized differently in the next prompt
        history.append(end.text)
    yield Row("turns with the text and the usage of the CPU", f"{same} of 4", "4", same == 4)
    yield Row("turns that prefill only what is new", f"{reused} of 4", "4", reused == 4)


def measure_chat(model: Adapter) -> tuple[float, float]:
    """Return the seconds to the first token of the last turn, and the median of the turns' tokens per second."""
    history, rates, first = list[str](), list[float](), 0.0
    _ask(model, ["Hi"])  # warm-up
    for turn in range(_TURNS):
        history.append(f"{turn} " + _STORY * 8)
        end, _ = _ask(model, history)
        history.append(end.text or "…")
        first = end.timings.time_to_first_token or 0.0
        rates.append(end.timings.tokens_per_second or 0.0)
    return first, statistics.median(rates)


def measure_generate(model: Adapter) -> float:
    """Return the seconds that plain generate takes per token, as the difference of two lengths."""
    import torch

    raw, seconds = _raw(model), []
    ids = torch.arange(3, 103, device=raw.device)[None]
    for tokens in (8, 8, 8 + _TOKENS):
        start = time.perf_counter()
        limits = {"max_new_tokens": tokens, "min_new_tokens": tokens}
        type(raw).generate(raw, ids, attention_mask=torch.ones_like(ids), do_sample=False, **limits)
        seconds.append(time.perf_counter() - start)
    return (seconds[-1] - seconds[-2]) / _TOKENS


def measure_chunks(model: Adapter) -> Iterator[Row]:
    """Measure the prefill of one long prompt in chunks of several sizes."""
    from phi3_ui.runtime import pipeline_kv_cache

    chosen = pipeline_kv_cache.PREFILL_CHUNK
    for chunk in _CHUNKS:
        pipeline_kv_cache.PREFILL_CHUNK = chunk
        rates, length = [], 0
        for number in range(3):
            end, _ = _ask(model, [f"{chunk} {number} " + _STORY * 90], 4)
            assert end.usage
            length = end.usage.prompt_tokens
            computed = length - (end.usage.cached_tokens or 0)
            rates.append(computed / (end.timings.time_to_first_token or 1.0))
        name = f"prefill of {length} tokens in chunks of {chunk}{' (chosen)' if chunk == chosen else ''}"
        yield Row(name, f"{statistics.median(rates):,.0f} tokens/s")
    pipeline_kv_cache.PREFILL_CHUNK = chosen


def make_big_checkpoint(folder: Path, device: str) -> Path:
    """Write a bf16 checkpoint with random weights, of Phi-3-mini's size on a GPU."""
    import torch
    from transformers import Phi3Config, Phi3ForCausalLM

    from tests.support.tiny_phi3 import make_checkpoint

    make_checkpoint(folder)
    (folder / "model.safetensors").unlink()
    size = dict(_SMALL if device == "cpu" else _MINI)
    heads = size.pop("heads")
    config = Phi3Config.from_pretrained(folder)
    config.update({**size, "num_attention_heads": heads, "num_key_value_heads": heads})
    with torch.device(device):
        model = Phi3ForCausalLM._from_config(config, dtype=torch.bfloat16)
    config.save_pretrained(folder)
    model.save_pretrained(folder)
    return folder


def _log(folder: Path, home: Path, name: str) -> ModelSpec:
    from models import log_pipeline
    from models.presets import Origin
    from models.tracking import Store
    from phi3_ui.store.registry.catalogue import Catalogue
    from tests.support.build_cache import create_store

    uri = create_store(home) if not (home / "mlflow.db").exists() else f"sqlite:///{home / 'mlflow.db'}"
    origin = Origin(preset="", name=name, title=name, source="bench", license="mit")
    store = Store(uri, str(home / "artifacts"))
    logged = log_pipeline.log(folder, origin, store, lambda *_: None, measured=False, registering=False)
    entry = Catalogue(uri).find(logged.model_id)
    return ModelSpec(entry.model_id, entry.name, entry.uri, entry.contract, entry.tracking_uri, folder=entry.folder)


def _load(spec: ModelSpec, device: str) -> Adapter:
    from phi3_ui.host.worker import load_adapter

    os.environ["MLFLOW_DEFAULT_PREDICTION_DEVICE"] = "-1" if device == "cpu" else "0"  # MLflow's numbers
    return load_adapter(spec)


def _raw(model: Adapter) -> Any:
    return model._pipeline._model  # type: ignore[attr-defined]  # of the pipeline's adapter


def _ask(model: Adapter, history: list[str], tokens: int = _TOKENS) -> tuple[Completed, int]:
    """Return the end of a greedy answer, and the number of prompt tokens that were in the KV cache before its prefill."""
    messages = tuple(Message("assistant" if number % 2 else "user", text) for number, text in enumerate(history))
    found = 0
    for event in model.answer(ChatRequest(messages, GenerationParams(tokens, temperature=0.0)), CancelToken()):
        if isinstance(event, PrefillProgress) and not found:
            found = event.processed
    assert isinstance(event, Completed)
    return event, found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda", help="a torch device type (default: cuda)")
    device = parser.parse_args().device
    import torch
    from transformers.utils import logging

    logging.set_verbosity_error()
    if device != "cpu" and not torch.get_device_module(device).is_available():
        sys.exit(f"torch finds no device of the type {device}. Install its driver and a build of torch for it.")
    declare_confined()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        print_header()
        for row in measure_rows(Path(folder), device):
            print_row(row)


if __name__ == "__main__":
    main()
