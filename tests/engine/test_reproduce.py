"""Reproduce programs give exactly the answers of real models, without this project."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from phi3_ui.chat.conversation import Answer, Conversation, TurnRequest
from phi3_ui.chat.running_turn import RunningTurn
from phi3_ui.chat.types import CancelToken, ChatRequest, Completed, GenerationParams
from phi3_ui.export.reproduce import render_program
from phi3_ui.host.pool import Pool
from phi3_ui.host.protocol import ModelSpec
from phi3_ui.host.worker import load_adapter
from phi3_ui.runtime.pipeline_kv_cache import PREFILL_CHUNK, PipelineKVCache
from phi3_ui.store.registry.catalogue import Catalogue, ModelEntry
from tests.conftest import Demo
from tests.engine.test_third_party_models import catalogue, home  # noqa: F401  (fixtures)

GREEDY = GenerationParams(max_tokens=12, temperature=0.0)
SEEDED = GenerationParams(max_tokens=12, temperature=1.2, top_p=0.9, top_k=40, seed=7)
STORY = "Tell me a story about a fox, a crow and a piece of cheese; the fox is clever, and the crow is vain."
ODD = "It says \"<|im_end|>\" and '''<|im_start|>system''' \\n {braces} “ă” 🦊: what is that?\r\n\t\u2063 \u2028"

RUN_ALL = """
import contextlib, importlib.util, io, json, runpy, sys

assert importlib.util.find_spec("phi3_ui") is None
printed = []
for file in sys.argv[1:]:
    with contextlib.redirect_stdout(io.StringIO(newline="")) as out:
        runpy.run_path(file, run_name="__main__")
    printed.append(out.getvalue())
print(json.dumps(printed))
"""


@pytest.fixture(params=["prompt", "chat"])
def entry(request: pytest.FixtureRequest, demo: Demo) -> ModelEntry:
    return demo.entry(request.param)


def add_turn(
    conversation: Conversation,
    question: str,
    entry: ModelEntry,
    pool: Pool,
    demo: Demo,
    params: GenerationParams,
    system: str = "",
) -> Conversation:
    """Ask a question as the app does; return the conversation with it and its answer."""
    conversation = conversation.with_question(question, TurnRequest(time.time(), entry.model_id, system, params))
    answers: list[Answer] = []
    turn = RunningTurn(
        conversation.build_request(), entry.name, lambda: pool.get_model(demo.spec(entry.contract)), answers.append
    ).start()
    list(turn.snapshots(0.05))
    (answer,) = answers
    assert answer.error is None
    return conversation.with_answer(answer)


def run_programs(programs: dict[str, str], empty: Path) -> dict[str, str]:
    """Return the output of each program, run in an empty folder by a Python that cannot import this project.

    Each program loads its model, but they share what takes longest: importing the libraries.
    """
    for name, program in programs.items():
        (empty / f"{name}.py").write_text(program, encoding="utf-8")
    (empty / "run_all.py").write_text(RUN_ALL, encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-P", "run_all.py", *(f"{name}.py" for name in programs)]
    process = subprocess.run(command, cwd=empty, env=environment, capture_output=True, encoding="utf-8")
    assert process.returncode == 0, process.stderr
    return dict(zip(programs, json.loads(process.stdout), strict=True))


def test_every_answer_of_a_chat_is_reproduced(entry: ModelEntry, demo: Demo, pool: Pool, tmp_path: Path) -> None:
    declaration = demo.catalogue.load_declaration(entry)
    conversation = Conversation()
    for question, params, system in (
        (STORY, GREEDY, 'You answer in one <|im_end|> sentence.\nYou are "brief".'),
        (ODD, SEEDED, ""),
        ("What is the capital of Germany?", replace(GREEDY, stop=("erlin", "no such text")), "Be brief."),
        (
            STORY,
            replace(SEEDED, stop=("\n\n", " the"), repetition_penalty=1.1, presence_penalty=0.3, frequency_penalty=0.2),
            "",
        ),
    ):
        conversation = add_turn(conversation, question, entry, pool, demo, params, system)
    long = conversation.turns[-1].answer
    assert long
    assert long.usage
    assert long.usage.prompt_tokens > 128, "it is prefilled in chunks"

    programs = {
        f"turn_{number}": render_program(conversation, turn.id, declaration, entry.tracking_uri)
        for number, turn in enumerate(conversation.turns)
    }
    texts = [f"{turn.answer.text}\n" for turn in conversation.turns if turn.answer]
    assert list(run_programs(programs, tmp_path).values()) == texts


THIRD_PARTY_PARAMS = {
    "tutorial": GenerationParams(),
    "hinted": GenerationParams(stop=("USER",)),
    "frames": GenerationParams(),
    "strings": GenerationParams(temperature=0.5, max_tokens=9),
    "chunks": GenerationParams(stop=("thr",)),
    "from-code": GenerationParams(),
    "chat-model-whole": GenerationParams(temperature=0.5, top_k=3),
    "chat-model": GenerationParams(stop=(" blue", "green b")),
    "chat-agent": GenerationParams(),
    "responses-whole": GenerationParams(max_tokens=9),
    "responses": GenerationParams(stop=("land",)),
    "completions": GenerationParams(max_tokens=8, temperature=3.0, seed=5),
}


def test_answers_of_third_party_models_are_reproduced(
    catalogue: Catalogue,  # noqa: F811
    tmp_path: Path,
) -> None:
    programs, texts = {}, []
    for name, params in THIRD_PARTY_PARAMS.items():
        entry = next(entry for entry in catalogue.list_models() if entry.name == name)
        spec = ModelSpec(entry.model_id, name, entry.uri, entry.contract, entry.tracking_uri)
        conversation = Conversation().with_question(
            ODD, TurnRequest(time.time(), entry.model_id, "Be brief.", params, "phi-3")
        )
        request = ChatRequest(conversation.build_messages("Be brief."), params, "phi-3")
        *_, end = load_adapter(spec).answer(request, CancelToken())
        assert isinstance(end, Completed)
        conversation = conversation.with_answer(Answer(name, end.text, end.usage, finish_reason=end.finish_reason))
        assert conversation.leaf
        declaration = catalogue.load_declaration(entry)
        programs[name] = render_program(conversation, conversation.leaf, declaration, entry.tracking_uri)
        texts.append(f"{end.text}\n")

    assert list(run_programs(programs, tmp_path).values()) == texts


def test_a_prompt_is_prefilled_in_the_same_chunks_as_in_the_app(tiny_checkpoint: Path) -> None:
    """In half precision, other chunks give other logits, and soon another text."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_checkpoint, dtype=torch.bfloat16)
    ids = torch.arange(10, 10 + 2 * PREFILL_CHUNK + 9).remainder(200).unsqueeze(0)
    mask = torch.ones_like(ids)
    cache = PipelineKVCache(model, 10**9)
    slot = cache.acquire(ids[0].tolist(), 4, exact=True)
    while end := cache.next_chunk_end(slot, ids.shape[1], exact=True):
        cache.prefill(slot, ids, mask, end)

    def generate_logits(**arguments: Any) -> list[Any]:
        options = {"max_new_tokens": 4, "do_sample": False, "output_logits": True, "return_dict_in_generate": True}
        return list(model.generate(ids, attention_mask=mask, **options, **arguments).logits)

    pairs = zip(
        generate_logits(past_key_values=slot.cache), generate_logits(prefill_chunk_size=PREFILL_CHUNK), strict=True
    )
    assert all(torch.equal(expected, actual) for expected, actual in pairs)
