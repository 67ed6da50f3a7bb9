"""Answers of real models, asked again by their programs alone: the same text, to the last character."""

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow.models import Model

from phi3_ui.chat.conversation import Answer, Asked, Conversation
from phi3_ui.chat.declared import Declared
from phi3_ui.chat.reproduce import packages_of, snippet
from phi3_ui.chat.service import RunningTurn
from phi3_ui.chat.types import GenerationParams
from phi3_ui.host.pool import Pool
from phi3_ui.store.catalogue import ModelEntry
from tests.conftest import Demo

GREEDY = GenerationParams(max_tokens=40, temperature=0.0)
SEEDED = GenerationParams(max_tokens=60, temperature=1.2, top_p=0.9, top_k=40, seed=7)
STORY = "Tell me a story about a fox, a crow and a piece of cheese; the fox is clever, and the crow is vain."
ODD = "It says \"<|im_end|>\" and '''<|im_start|>system''' \\n {braces} “ă” 🦊: what is that?\r\n\t\u2063 \u2028"


@pytest.fixture(params=["prompt", "chat"])
def entry(request: pytest.FixtureRequest, demo: Demo) -> ModelEntry:
    return demo.entry(request.param)


def asked(
    conversation: Conversation,
    question: str,
    entry: ModelEntry,
    pool: Pool,
    demo: Demo,
    params: GenerationParams,
    system: str = "",
) -> Conversation:
    """With a further question, answered as the app does it."""
    conversation = conversation.ask(question, Asked(time.time(), entry.model_id, system, params))
    answers: list[Answer] = []
    turn = RunningTurn(
        conversation,
        lambda: pool.model(demo.spec(entry.contract)),
        entry.name,
        system,
        params,
        answers.append,
    ).start()
    list(turn.states(0.05))
    (answer,) = answers
    assert answer.error is None
    return conversation.answered(answer)


def printed(program: str, folder: Path) -> str:
    """What the program prints, run in an empty folder by a Python that does not see this project."""
    file = folder / "again.py"
    file.write_text(program, encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-P", str(file)], cwd=folder, env=environment, capture_output=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr + program
    return done.stdout


def test_every_answer_of_a_chat_is_given_again(entry: ModelEntry, demo: Demo, pool: Pool, tmp_path: Path) -> None:
    declared = Declared.of(Model.load(entry.uri))
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
        ("And then?", SEEDED, "Be brief."),
    ):
        conversation = asked(conversation, question, entry, pool, demo, params, system)
    long = conversation.turns[-1].answer
    assert long and long.usage and long.usage.prompt_tokens > 256, "its prompt was read in pieces"

    texts, programs = {}, {}
    for number, turn in enumerate(conversation.turns):
        assert turn.answer
        programs[number] = snippet(conversation, turn.id, declared, entry.tracking_uri, packages_of(declared))
        texts[number] = turn.answer.text + "\n"
        (tmp_path / str(number)).mkdir()

    assert {number: printed(program, tmp_path / str(number)) for number, program in programs.items()} == texts
