"""Tables behind choices based on measurements: precision, shared embedding, threads, prefill chunks, warm-up.

Quality compares the demo model's next-token distribution with that of fp32 transformers at every token of TEXT.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import mlflow
import numpy as np

from bench.rows import Bench, available_cores
from models.phi3_onnx_engine import OnnxFolder
from models.phi3_onnx_engine.batched import BatchedEngine
from models.phi3_onnx_engine.graph import rewrite_graph

TEXT = (
    "The harbour lay quiet at dawn. Fishermen mended their nets while gulls circled above the masts, and the baker "
    "opened his shutters to let the warm smell of bread into the street. A girl with a red scarf asked him how yeast "
    "works. He explained that it eats sugar and breathes out bubbles, which stretch the dough. In Python, a function "
    "is defined with the keyword def, followed by its name and its parameters in parentheses. Water boils at 100 "
    "degrees Celsius at sea level; on a mountain it boils earlier, because the pressure of the air is lower. The "
    "treaty was signed in 1648 and ended thirty years of war. She wrote him three letters, and he answered none."
)
_PROMPT, _DECODED = 512, 100  # prefill and decode lengths

Logits = np.ndarray[Any, np.dtype[np.float32]]


@dataclass(frozen=True)
class Variant:
    """An ONNX build: the builder's precision and extra options, and whether the embedding shares the lm_head's weights."""

    name: str
    precision: str
    options: tuple[str, ...] = ()
    shared: bool = False


VARIANTS = (
    Variant("fp32", "fp32"),
    Variant("int8", "int8"),
    Variant("int8, embedding in lm_head", "int8", shared=True),
    Variant("the same, lm_head for the last token only (chosen)", "int8", ("prune_lm_head=true",), shared=True),
    Variant("int4, the builder's default", "int4"),
    Variant("int4 k_quant_mixed", "int4", ("algo_config=k_quant_mixed", "block_size=32", "accuracy_level=4")),
)


def link_checkpoint(bench: Bench) -> Path:
    """Link the demo model's fp32 checkpoint into a folder that the builder accepts."""
    entry = bench.entries["chat"]
    mlflow.set_tracking_uri(entry.tracking_uri)
    stored = Path(mlflow.artifacts.download_artifacts(entry.uri))
    folder = bench.temporary / "checkpoint"
    if not folder.exists():
        folder.mkdir()
        for file in (*(stored / "components" / "tokenizer").iterdir(), *(stored / "model").iterdir()):
            (folder / file.name).unlink(missing_ok=True)
            (folder / file.name).symlink_to(file)
    return folder


def build_variant(bench: Bench, variant: Variant) -> Path:
    from models.onnx_build import share_embedding

    folder = bench.temporary / f"variant-{VARIANTS.index(variant)}"
    if not folder.exists():
        command = [sys.executable, "-m", "onnxruntime_genai.models.builder", "-i", str(link_checkpoint(bench))]
        command += ["-o", str(folder), "-p", variant.precision, "-e", "cpu", "-c", str(bench.temporary / "cache")]
        options = ["--extra_options", *variant.options] if variant.options else []
        subprocess.run([*command, *options], check=True, capture_output=True)
        if variant.shared:
            share_embedding(folder)
    return folder


def load_engine(folder: Path, threads: int) -> Any:
    import onnxruntime_genai as og

    config = og.Config(str(folder))
    config.overlay(json.dumps({"model": {"decoder": {"session_options": {"intra_op_num_threads": threads}}}}))
    return og.Model(config)


def create_generator(model: Any, length: int) -> Any:
    import onnxruntime_genai as og

    params = og.GeneratorParams(model)
    params.set_search_options(max_length=length, do_sample=False)
    return og.Generator(model, params)


def onnx_logits(model: Any, ids: Sequence[int]) -> Logits:
    """Return logits of shape [tokens, vocabulary], computed one token at a time."""
    running, rows = create_generator(model, len(ids) + 1), []
    for token in ids:
        running.append_tokens([token])
        rows.append(np.array(running.get_logits(), np.float32).reshape(-1, running.get_logits().shape[-1])[-1])
    return np.stack(rows)


def onnx_rates(model: Any, ids: Sequence[int], chunk: int = 64) -> tuple[float, float]:
    """Return the prefill and decode rates in tokens/s; `ids` is prefilled in chunks of `chunk`."""
    running, started = create_generator(model, len(ids) + _DECODED), time.perf_counter()
    for at in range(0, len(ids), chunk):
        running.append_tokens(list(ids[at : at + chunk]))
    read, written = time.perf_counter(), 0
    while not running.is_done():
        running.generate_next_token()
        written += 1
    return len(ids) / (read - started), written / (time.perf_counter() - read)


def time_step(engine: BatchedEngine, new: Sequence[int]) -> float:
    """Return the seconds for a step in which row `i` gets `new[i]` tokens after _PROMPT: one in each of several rows, or a chunk in one."""
    rows = [row for _ in new if (row := engine.allocate(_PROMPT + sum(new)))]
    for row in rows:
        engine.prefill(row, [7] * _PROMPT)
    started = time.perf_counter()
    if len(new) == 1 and new[0] > 1:
        engine.prefill(rows[0], [9] * new[0])
    else:
        engine.step(rows, [9] * len(rows), exact=False)
    seconds = time.perf_counter() - started
    for row in rows:
        engine.free(row)
    return seconds


def _median_ms(rounds: int, measure: Callable[[], float]) -> str:
    return f"{1000 * median(measure() for _ in range(max(5, rounds))):.1f}"


def _log_softmax(logits: Logits) -> Logits:
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    found: Logits = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return found


def compare_logits(reference: Logits, logits: Logits) -> tuple[float, float]:
    """Return the mean KL divergence in nats, and the share of positions with the same top token."""
    right, ours = _log_softmax(reference), _log_softmax(logits[:, : reference.shape[1]])
    kl = float((np.exp(right) * (right - ours)).sum(-1).mean())
    return kl, float((reference.argmax(-1) == logits.argmax(-1)).mean())


def _table(title: str, columns: Sequence[str], rows: Iterator[Sequence[object]]) -> None:
    print(f"| {title} | {' | '.join(columns)} |\n|{'---|' * (len(columns) + 1)}", flush=True)
    for row in rows:
        print(f"| {' | '.join(str(cell) for cell in row)} |", flush=True)
    print(flush=True)


def _medians(rounds: int, measure: Callable[[], tuple[float, float]]) -> tuple[str, str]:
    taken = [measure() for _ in range(rounds)]
    return f"{median(one for one, _ in taken):.0f}", f"{median(other for _, other in taken):.1f}"


def print_tables(bench: Bench) -> None:  # noqa: C901 (one nested function per table)
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = str(link_checkpoint(bench))
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    ids = list(tokenizer(TEXT)["input_ids"])
    long = (ids * 8)[:_PROMPT]
    exact: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)

    def torch_logits(model: Any) -> Logits:
        with torch.inference_mode():
            found: Logits = model(torch.tensor([ids])).logits[0].float().numpy()
        return found

    def torch_rates(model: Any, threads: int) -> tuple[float, float]:
        torch.set_num_threads(threads)
        started = time.perf_counter()
        with torch.inference_mode():
            out = model(torch.tensor([long]), use_cache=True, logits_to_keep=1)
            read, cache = time.perf_counter(), out.past_key_values
            token = out.logits[:, -1:].argmax(-1)
            for _ in range(_DECODED // 4):
                out = model(token, past_key_values=cache, use_cache=True)
                token = out.logits[:, -1:].argmax(-1)
        return _PROMPT / (read - started), (_DECODED // 4) / (time.perf_counter() - read)

    reference = torch_logits(exact)
    quality = ("KL, nats", "same top token", f"prefill {_PROMPT}, tokens/s", "decode, tokens/s")

    def variants() -> Iterator[Sequence[object]]:
        for variant in VARIANTS:
            made = build_variant(bench, variant)
            size = sum(file.stat().st_size for file in made.glob("model.onnx*")) / 1e6
            model = load_engine(made, available_cores())
            kl, same = compare_logits(reference, onnx_logits(model, ids))
            rates = _medians(bench.rounds, lambda model=model: onnx_rates(model, long))  # type: ignore[misc]
            yield (variant.name, f"{size:.0f}", f"{kl:.4f}", f"{same:.0%}", *rates)

    def threads() -> Iterator[Sequence[object]]:
        for count in range(1, available_cores() + 2):
            model = load_engine(build_variant(bench, VARIANTS[3]), count)
            yield (count, *_medians(bench.rounds, lambda model=model: onnx_rates(model, long)))  # type: ignore[misc]

    def chunks() -> Iterator[Sequence[object]]:
        model = load_engine(build_variant(bench, VARIANTS[3]), available_cores())
        for chunk in (1, 2, 4, 8, 16, 32, 64, 128, _PROMPT):
            yield (chunk, _medians(bench.rounds, lambda chunk=chunk: onnx_rates(model, long, chunk))[0])  # type: ignore[misc]

    def batched_steps() -> Iterator[Sequence[object]]:
        folder = OnnxFolder(build_variant(bench, VARIANTS[3]))
        engine = BatchedEngine(folder, rewrite_graph(folder.graph), available_cores(), 1 << 30)
        for count in (1, 2, 4, 8):
            yield (f"{count} decode", _median_ms(bench.rounds, lambda count=count: time_step(engine, [1] * count)))  # type: ignore[misc]
        for chunk in (8, 16, 24, 32, 64, 128):
            yield (f"a chunk of {chunk}", _median_ms(bench.rounds, lambda chunk=chunk: time_step(engine, [chunk])))  # type: ignore[misc]

    def pipelines() -> Iterator[Sequence[object]]:
        for name, dtype in (("fp32 (chosen)", torch.float32), ("bf16", torch.bfloat16)):
            model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
            kl, same = compare_logits(reference, torch_logits(model))
            for count in range(1, available_cores() + 1):
                rates = _medians(bench.rounds, lambda model=model, count=count: torch_rates(model, count))  # type: ignore[misc]
                yield (f"{name}, {count} threads", f"{kl:.4f}", f"{same:.0%}", *rates)

    def warm_up() -> Iterator[Sequence[object]]:
        folder = build_variant(bench, VARIANTS[3])
        taken: dict[str, list[float]] = {"the first slot after loading": [], "the second": []}
        for _ in range(bench.rounds):
            model = load_engine(folder, available_cores())
            generators = []
            for name in taken:
                started = time.perf_counter()
                generators.append(create_generator(model, 8192))
                generators[-1].append_tokens(ids[:43])
                generators[-1].get_logits()
                taken[name].append(time.perf_counter() - started)
        yield from ((name, f"{median(seconds):.3f}") for name, seconds in taken.items())

    _table("ONNX build", ("MB", *quality), variants())
    _table("ONNX threads", quality[2:], threads())
    _table("ONNX prefill chunk, tokens", ("tokens/s",), chunks())
    _table("batched engine, a step after 500 tokens", ("ms",), batched_steps())
    _table("pipeline", quality, pipelines())
    _table("a slot of 8,192 tokens, 43 prefilled", ("seconds",), warm_up())
