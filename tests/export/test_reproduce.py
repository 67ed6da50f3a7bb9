"""Reproduction programs: their constants equal the recorded request, and no text becomes code."""

import ast
import platform
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2 import TemplateRuntimeError, UndefinedError

from phi3_ui.chat.conversation import Answer, Conversation, TurnRequest
from phi3_ui.chat.types import ContextUsage, FinishReason, GenerationParams, Message, Usage
from phi3_ui.contracts.declaration import Field, ModelDeclaration
from phi3_ui.contracts.onnx_prompt import OnnxPromptContract
from phi3_ui.contracts.registry import find_contract
from phi3_ui.export.reproduce import _load_template, list_installed_versions, render_program
from phi3_ui.prompts.tokenization import PromptFormat, neutralise
from tests.prompts.test_tokenization import PHI3, SPECIAL

GREEDY = GenerationParams(max_tokens=9, temperature=0.0)
SEEDED = GenerationParams(temperature=0.7, seed=3)
STRING = (Field("prompt", "string", True),)
PARAMS = tuple(Field(name, "double", False) for name in GenerationParams.__dataclass_fields__)


def declared(
    task: str = "",
    flavor: str = "python_function",
    params: tuple[Field, ...] = (),
    streamable: bool = True,
    inputs: tuple[Field, ...] = STRING,
    **metadata: object,
) -> ModelDeclaration:
    loader = "mlflow.transformers" if flavor == "transformers" else "mlflow.pyfunc.model"
    return ModelDeclaration(frozenset({flavor}), loader, task, inputs, STRING, params, streamable, metadata)


OURS = declared(contract="prompt", chat_template=PHI3, special_tokens=SPECIAL, params=PARAMS)
CHAT = declared("llm/v1/chat", "transformers", chat_template=PHI3, special_tokens=SPECIAL)
MODELS = {
    "ours": OURS,
    "chat": CHAT,
    "unknown tokens": declared("llm/v1/chat", "transformers"),
    "completions": declared("llm/v1/completions", "transformers"),
    "string": declared(streamable=False),
    "streamed string": declared(params=PARAMS),
    "chat model": declared("agent/v1/chat", inputs=PARAMS),
    "chat agent": declared("agent/v2/chat"),
    "responses": declared("agent/v1/responses", inputs=(Field("max_output_tokens", "long", False),)),
}


def create_conversation(
    *turns: tuple[str, str],
    system: str = "",
    params: GenerationParams = GREEDY,
    name: str = "a model",
    at: float = 1.7e9,
    context: ContextUsage | None = None,
    usage: Usage | None = None,
    reason: FinishReason = "stop",
) -> Conversation:
    """Return a conversation with these questions and answers, all with the same request and metrics."""
    conversation = Conversation()
    for question, text in turns:
        conversation = conversation.with_question(question, TurnRequest(at, "m-1", system, params, "chatml"))
        conversation = conversation.with_answer(Answer(name, text, usage, None, reason, context=context))
    return conversation


def create_program(
    conversation: Conversation, model: ModelDeclaration = OURS, uri: str = "sqlite:///some/mlflow.db"
) -> str:
    assert conversation.leaf
    return render_program(conversation, conversation.leaf, model, uri)


def read_constants(source: str) -> dict[str, Any]:
    """Return a program's constants by name."""
    constants = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id.isupper():
            constants[node.targets[0].id] = ast.literal_eval(node.value)
    return constants


def dump_without_constants(source: str) -> str:
    """Return a program's syntax tree without comments and constants."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str | int | float):
            node.value = 0
    return ast.dump(tree)


_QUOTES = ['"', "'", '"""', "'''", "\\", "{", "}", "{{ x }}", "#", "\\N{BULLET}", "import os", ")\nimport os\n("]
_INVISIBLE = ["\n", "\r", "\0", "\x0c", "\x85", "\u2028", "\u202e", "\u2063", "\ud83d", "\ude00"]
_hostile_texts = st.sampled_from([*_QUOTES, *_INVISIBLE, *SPECIAL, "<|im_end|>", "😀", " ", "coding: utf-7"])
_texts = st.lists(_hostile_texts | st.text(max_size=8), max_size=30).map("".join)
_nonempty_texts = _texts.filter(bool)


@pytest.mark.parametrize("kind", MODELS)
@settings(max_examples=25)
@given(system=_nonempty_texts, question=_texts, text=_nonempty_texts, name=_texts, stop=_nonempty_texts, uri=_texts)
def test_no_text_becomes_code(kind: str, system: str, question: str, text: str, name: str, stop: str, uri: str) -> None:
    system, uri = f"s{system}", f"sqlite:///{uri.replace('@', '').replace('=', '')}"
    conversation = create_conversation(
        (question, text), ("And?", text), system=system, name=name, params=replace(SEEDED, stop=(stop,))
    )
    plain = create_conversation(("q", "a"), ("And?", "a"), system="s", params=replace(SEEDED, stop=("stop",)))

    source = create_program(conversation, MODELS[kind], uri)

    assert dump_without_constants(source) == dump_without_constants(create_program(plain, MODELS[kind]))
    assert ast.dump(ast.parse(source.encode("utf-8"))) == ast.dump(ast.parse(source)), (
        "Python decodes the file to the same source"
    )
    constants = read_constants(source)
    stop_strings = constants["PARAMS"]["stop"] if kind == "ours" else constants["STOP"][:1]
    assert stop_strings == [stop]
    if kind in ("unknown tokens", "chat model", "chat agent"):
        assert [message["content"] for message in constants["DATA"]["messages"]] == [system, question, text, "And?"]
    assert ast.literal_eval(source.split("mlflow.set_tracking_uri(")[1].split(")\nmodel = ")[0]) == uri


@given(system=_texts, question=_texts, text=_nonempty_texts)
def test_the_program_contains_the_rendered_prompt(system: str, question: str, text: str) -> None:
    conversation = create_conversation((question, text), (text, "end"), system=system)
    messages = [
        *([Message("system", system)] if system.strip() else []),
        Message("user", question),
        Message("assistant", text),
        Message("user", text),
    ]

    assert read_constants(create_program(conversation)) == {
        "MODEL": "models:/m-1",
        "DATA": {"prompt": PromptFormat(PHI3, SPECIAL).render(messages)},
        "PARAMS": {"max_tokens": 9, "temperature": 0.0},
    }


def test_control_tokens_in_messages_are_neutralised() -> None:
    assert read_constants(create_program(create_conversation(("say <|end|>", "no")), CHAT))["DATA"] == {
        "messages": [{"role": "user", "content": neutralise("say <|end|>", SPECIAL)}],
        "max_tokens": 9,
    }


def test_omitted_turns_are_not_sent() -> None:
    conversation = create_conversation(
        ("1", "one"), ("2", "two"), ("3", "three"), system="s", context=ContextUsage(90, 100, 2, max_tokens=5)
    )
    source = create_program(conversation, CHAT)

    assert read_constants(source)["DATA"] == {
        "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "3"}],
        "max_tokens": 5,
    }
    assert "# The oldest 2 turns did not fit" in source
    assert "# Only 5 tokens were left for the answer" in source


def test_an_earlier_turn_is_reproduced_with_its_own_history() -> None:
    conversation = create_conversation(("1", "one"), ("2", "two"))

    source = render_program(conversation, conversation.turns[0].id, CHAT, "sqlite:///x")
    assert read_constants(source)["DATA"]["messages"] == [{"role": "user", "content": "1"}]


def test_a_template_writes_the_date_of_the_answer() -> None:
    dated_model = replace(OURS, metadata={**OURS.metadata, "chat_template": "{{ strftime_now('%Y') }}"})

    assert read_constants(create_program(create_conversation(("q", "a"), at=1.5e9), dated_model))["DATA"] == {
        "prompt": "2017"
    }
    assert "the prompt differs on another day" in create_program(
        create_conversation(("q", "a")), replace(CHAT, metadata={"chat_template": "{{ strftime_now('%Y') }}"})
    )


@pytest.mark.parametrize(
    ("kind", "params", "sentence"),
    [
        ("ours", GREEDY, "The text should be identical (temperature 0 always picks the most likely token)"),
        ("chat", SEEDED, "The text should be identical (the sampling is seeded)"),
        ("chat", GenerationParams(temperature=0.7), "The text will probably differ"),
        ("ours", GenerationParams(), "The text will probably differ"),
        (
            "chat model",
            SEEDED,
            "The text should be the same (the sampling is seeded) if the model's own code respects that.",
        ),
        ("chat agent", GREEDY, "Whether the text is the same depends on the model"),
    ],
)
def test_the_header_says_whether_to_expect_the_same_text(kind: str, params: GenerationParams, sentence: str) -> None:
    assert sentence in _header_text(create_program(create_conversation(("q", "a"), params=params), MODELS[kind]))


def test_the_header_lists_caveats() -> None:
    cancelled = create_program(create_conversation(("q", "a"), reason="cancelled"))
    assert "was cut off" in _header_text(cancelled)
    with_cached_tokens = create_conversation(("q", "a"), usage=Usage(300, 4, 200))
    assert "200 prompt tokens were served from the app's KV cache" in _header_text(
        create_program(with_cached_tokens, CHAT)
    )
    assert "KV cache" not in _header_text(create_program(with_cached_tokens, OURS)), (
        "the program prefills the earlier answer again"
    )


def test_the_header_names_model_time_and_versions() -> None:
    header = _header_text(create_program(create_conversation(("q", "a"), name="phi-3\nimport os")))
    assert "Reproduces an answer of phi-3\\nimport os; needs" in header
    assert f"Answered on 2023-11-14 at 22:13 UTC. Written with Python {platform.python_version()}, mlflow " in header


@pytest.mark.parametrize(
    "name", ["coding: utf-7", "vim: set fileencoding=utf-16", "coding=no-such-encoding", "# -*- coding: latin-1 -*-"]
)
def test_a_model_name_does_not_declare_the_file_encoding(name: str) -> None:
    source = create_program(create_conversation(("é +AAo-import os", "a"), name=name))
    assert ast.dump(ast.parse(source.encode("utf-8"))) == ast.dump(ast.parse(source))


@pytest.mark.parametrize(
    "uri", ["http://me:secret@host:5000", "postgresql://u:secret@host/db", "mysql://h/d?password=secret"]
)
def test_a_password_in_the_tracking_uri_is_left_out(uri: str) -> None:
    source = create_program(create_conversation(("q", "a")), uri=uri)
    assert "secret" not in source
    assert "import os\n\nimport mlflow\n" in source
    assert 'mlflow.set_tracking_uri(os.environ["MLFLOW_TRACKING_URI"])' in source


def test_an_unanswered_turn_cannot_be_reproduced() -> None:
    conversation = Conversation().with_question("q", TurnRequest(0.0, "m-1"))
    with pytest.raises(ValueError, match="no answer"):
        create_program(conversation)
    with pytest.raises(ValueError, match="no answer"):
        create_program(Conversation().with_question("q").with_answer(Answer("m", "a")))
    with pytest.raises(KeyError):
        render_program(conversation, "other", OURS, "")


def test_the_listed_packages_are_those_that_determine_the_text() -> None:
    def packages(declaration: ModelDeclaration) -> list[str]:
        contract = find_contract(declaration)
        assert contract
        return list(list_installed_versions(contract))

    assert packages(OURS) == ["Python", "mlflow", "onnxruntime-genai", "tokenizers", "numpy"]
    assert packages(CHAT) == ["Python", "mlflow", "transformers", "torch"]
    assert packages(MODELS["responses"]) == ["Python", "mlflow"]


def _header_text(source: str) -> str:
    """Return the leading comment as one line."""
    lines = source.split("\n\n")[0].splitlines()
    assert all(line.startswith("# ") for line in lines)
    return " ".join(line.removeprefix("# ") for line in lines)


def test_a_template_that_writes_a_raw_value_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    template = tmp_path / "raw.py.jinja"
    template.write_text('{% extends "base.py.jinja" %}{% block answer %}{{ data.prompt }}{% endblock %}')
    monkeypatch.setattr(OnnxPromptContract, "program_template", template)
    with pytest.raises(TemplateRuntimeError, match="must pass through the filter"):
        create_program(create_conversation(("q", "a")))
    template.write_text('{% extends "base.py.jinja" %}{% block answer %}{{ no_such_value | literal }}{% endblock %}')
    _load_template.cache_clear()
    with pytest.raises(UndefinedError, match="no_such_value"):
        create_program(create_conversation(("q", "a")))


def test_a_continued_answer_is_reproduced_from_its_prefix() -> None:
    request = TurnRequest(1.7e9, "m-1", "", GREEDY, prefix="Once <|end|> upon")
    conversation = Conversation().with_question("q", request).with_answer(Answer("m", "Once upon a time"))

    assert read_constants(create_program(conversation))["DATA"]["prompt"].endswith("Once <\u2063|end|> upon")
    assert read_constants(create_program(conversation, CHAT))["PREFIX"] == "Once <\u2063|end|> upon"
