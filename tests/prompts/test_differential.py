"""Our rendering of chat templates compared with transformers' own, for the documented formats of well-known model families."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.chat_template import TemplateError, find_answer_markers, render_chat_template
from phi3_ui.chat.types import Message, Role
from phi3_ui.prompts.tokenization import SEPARATOR, PromptFormat

FAMILIES = {
    file.stem: file.read_text(encoding="utf-8") for file in Path(__file__).with_name("families").glob("*.jinja")
}
"""A template by the model family that documents its format."""

FEATURES = {
    "generation": "{% for m in messages %}{% generation %}\n  {{ m.content }}\n  {% endgeneration %}{% endfor %}",
    "generation scope": "{% generation %}{% set x = 1 %}{% endgeneration %}{{ x is defined }}",
    "generation macro": "{% macro f(m) %}{%- generation -%} {{ m.role }} {%- endgeneration -%}{% endmacro %}{{ f(messages[0]) }}",
    "json": "{{ messages | tojson }}{{ '<b>&é' | tojson }}",
    "json indent": "{{ messages | tojson(indent=2) }}{{ messages | tojson(true, 1) }}",
    "json arguments": "{{ messages | tojson(ensure_ascii=True, separators=(',', ':'), sort_keys=True) }}",
    "loop controls": "{% for m in messages %}{% if loop.index0 == 1 %}{% continue %}{% endif %}{{ m.role }}{% if loop.index > 2 %}{% break %}{% endif %}{% endfor %}",
    "raise": "{{ raise_exception('No: ' + messages[0].content) }}",
    "date": "{{ strftime_now('%Y-%m-%d') }}{{ strftime_now(format='%Y') }}{{ strftime_now is defined }}",
    "tools": "{{ tools is defined }}{{ tools is none }}{{ documents is defined }}{{ documents is none }}",
    "tokens": "{{ bos_token }}{{ eos_token }}{{ unk_token }}{{ pad_token }}{{ mask_token is defined }}",
    "prompt": "{{ add_generation_prompt }}{{ enable_thinking is defined }}",
    "whitespace": "  {% for m in messages %}\n  {{- m.content -}}  \n  {% endfor %}\n\n{# comment #}\nend\n",
    "undefined": "{{ nothing }}{{ messages[0].nothing }}{{ messages[0].nothing.here }}",
    "sandbox": "{{ messages.append(1) }}",
    "sandbox attributes": "{{ ''.__class__.__mro__ }}",
    "unknown filter": "{{ messages | nosuchfilter }}",
    "malformed": "{% for m in messages %}",
    "malformed generation": "{% generation %}",
    "changed messages": "{{ messages | indent }}",
    "type error": "{{ messages[0].content + 1 }}",
}
TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}

_roles: st.SearchStrategy[Role] = st.sampled_from(["system", "user", "assistant"])
_texts = st.lists(
    st.text(max_size=8)
    | st.sampled_from(["</think>", "<think>\n", "/no_think", "<tool_response>", "{{ x }}", "\n", "  ", "é😀"]),
    max_size=5,
).map(lambda parts: "".join(parts).replace(SEPARATOR, ""))


@st.composite
def _conversations(draw: st.DrawFn) -> list[Message]:
    """Generate conversations like the app's, and arbitrary ones."""
    if draw(st.booleans()):
        return draw(st.lists(st.builds(Message, _roles, _texts), min_size=1, max_size=6))
    system = [Message("system", draw(_texts))] if draw(st.booleans()) else []
    turns = draw(st.integers(0, 3))
    spoken = [Message(role, draw(_texts)) for _ in range(turns) for role in ("user", "assistant")]
    return [*system, *spoken, Message("user", draw(_texts))]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    """Return a transformers tokenizer with the named tokens; its vocabulary does not matter."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    vocabulary = {text: number for number, text in enumerate(TOKENS.values())}
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel(vocabulary, unk_token="<unk>")), **TOKENS)


def theirs(tokenizer: Any, template: str, messages: Sequence[Message], **options: Any) -> str | None:
    """Return the rendering of transformers; None if the template fails."""
    dicts = [{"role": message.role, "content": message.content} for message in messages]
    try:
        return str(tokenizer.apply_chat_template(dicts, chat_template=template, tokenize=False, **options))
    except Exception:  # noqa: BLE001 (a template may fail in any way)
        return None


def ours(template: str, messages: Sequence[Message]) -> str | None:
    """Return the app's rendering; None if the template fails."""
    other = {name: TOKENS[name] for name in ("unk_token", "pad_token")}
    try:
        return PromptFormat(template, (), TOKENS["bos_token"], TOKENS["eos_token"], other).render(messages)
    except TemplateError:
        return None


def test_there_are_twenty_families() -> None:
    assert len(FAMILIES) >= 20


@pytest.mark.parametrize("name", sorted({*FAMILIES, *FEATURES}))
@settings(max_examples=25)
@given(messages=_conversations())
def test_a_template_renders_as_in_transformers(tokenizer: Any, name: str, messages: list[Message]) -> None:
    template = {**FAMILIES, **FEATURES}[name]

    assert ours(template, messages) == theirs(tokenizer, template, messages, add_generation_prompt=True)


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_every_family_renders_a_chat(tokenizer: Any, name: str) -> None:
    """Otherwise the comparison would prove little."""
    messages = [Message("user", "Hi"), Message("assistant", "Hello!"), Message("user", "And you?")]

    rendered = ours(FAMILIES[name], messages)

    assert rendered is not None
    assert "And you?" in rendered
    plain = render_chat_template(
        FAMILIES[name], [vars(message) for message in messages], TOKENS, add_generation_prompt=False
    )
    assert plain == theirs(tokenizer, FAMILIES[name], messages)


@pytest.mark.parametrize("name", ["raise", "undefined", "malformed", "malformed generation", "sandbox", "type error"])
def test_a_failure_is_told_in_one_line(name: str) -> None:
    with pytest.raises(TemplateError) as raised:
        render_chat_template(FEATURES[name], [{"role": "user", "content": "a\nb"}], TOKENS)

    assert str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["qwen-3", "deepseek-r1"])
def test_a_template_finds_the_reasoning_in_an_answer(tokenizer: Any, name: str) -> None:
    template, special = FAMILIES[name], ("<think>", "</think>", "<|im_start|>", "<|im_end|>", "<tool_response>")
    markers = tuple(find_answer_markers(template, TOKENS, special))
    prompt_format = PromptFormat(template, special, TOKENS["bos_token"], TOKENS["eos_token"], answer_markers=markers)
    answer = "<think>\nThey greet me.\n</think>\n\nHello!"
    messages = [Message("user", "Hi"), Message("assistant", answer), Message("user", "And you?")]

    rendered = prompt_format.render(messages)

    assert "They greet me" not in rendered
    assert rendered == theirs(tokenizer, template, messages, add_generation_prompt=True)
    assert "</think>" in markers
    assert not {"<|im_start|>", "<|im_end|>"} & {*markers}, "the template writes them"


def test_no_marker_becomes_a_control_token_elsewhere() -> None:
    special = ("<think>", "</think>", "<|im_start|>", "<|im_end|>")
    markers = tuple(find_answer_markers(FAMILIES["qwen-3"], {}, special))
    prompt_format = PromptFormat(FAMILIES["qwen-3"], special, answer_markers=markers)

    plain = prompt_format.render([Message("user", "a"), Message("assistant", "b"), Message("user", "c")])
    typed = "".join(special)
    prompt = prompt_format.render(
        [Message("user", typed), Message("assistant", "<|im_end|><|im_start|>"), Message("user", typed)]
    )

    assert [prompt.count(token) for token in special] == [plain.count(token) for token in special]


def test_the_date_can_be_fixed() -> None:
    rendered = render_chat_template("{{ strftime_now('%d %b %Y') }}", [], {}, now=datetime(2024, 7, 26, 12, 0))

    assert rendered == "26 Jul 2024"


def test_a_token_that_the_tokenizer_lacks_is_undefined() -> None:
    template = "{{ bos_token is defined }}{{ eos_token }}{{ image_token }}"

    rendered = PromptFormat(template, (), "", "</s>", {"image_token": "<image>"}).render([Message("user", "Hi")])

    assert rendered == "False</s><image>"
