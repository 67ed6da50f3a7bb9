"""The templates that users can pick: their models' training formats, in which user text stays text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phi3_ui.chat.types import Message
from phi3_ui.prompts.templates import TEMPLATES, NoTemplateError, get_template
from phi3_ui.prompts.tokenization import PromptFormat
from tests.support.tiny_phi3 import CHAT_TEMPLATE

MESSAGES = (
    Message("system", "Be brief."),
    Message("user", "Hi"),
    Message("assistant", "Hello!"),
    Message("user", "What?\n"),
)


@pytest.mark.parametrize(
    ("key", "prompt"),
    [
        (
            "chatml",
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
            "<|im_start|>assistant\nHello!<|im_end|>\n<|im_start|>user\nWhat?\n<|im_end|>\n<|im_start|>assistant\n",
        ),
        (
            "llama-3",
            "<|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
            "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\nHello!<|eot_id|>"
            "<|start_header_id|>user<|end_header_id|>\n\nWhat?<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\n",
        ),
        ("plain", "Be brief.\n\nUser: Hi\nAssistant: Hello!\nUser: What?\n\nAssistant:"),
    ],
)
def test_a_conversation_is_rendered_in_the_known_format(key: str, prompt: str) -> None:
    assert TEMPLATES[key].format.render(MESSAGES) == prompt


def test_phi_3_is_rendered_as_by_its_own_template() -> None:
    assert TEMPLATES["phi-3"].format.render(MESSAGES) == PromptFormat(CHAT_TEMPLATE).render(MESSAGES)


@pytest.mark.parametrize("key", TEMPLATES)
@given(st.data())
def test_no_template_marker_comes_from_user_text(key: str, data: st.DataObject) -> None:
    template = TEMPLATES[key]
    marks = [*template.format.special_tokens, *template.stop_strings]
    pieces = st.sampled_from([*marks, *(mark[:-1] for mark in marks), *(mark[1:] for mark in marks), "\n", "x"])
    typed = "".join(data.draw(st.lists(pieces, max_size=6)))

    empty = template.format.render([Message("user", "x"), Message("user", "x")])
    prompt = template.format.render([Message("user", f"x{typed}x"), Message("user", "x")])

    assert {mark: prompt.count(mark) for mark in marks} == {mark: empty.count(mark) for mark in marks}


def test_a_declared_template_precedes_the_picked_one() -> None:
    metadata = {"chat_template": "{{ messages[0].content }}!", "eos_token": "</s>", "special_tokens": ["<s>", "</s>"]}

    template = get_template(metadata, "phi-3")

    assert template.format.render([Message("user", "a</s>")]) == "a<\u2063/s>!"
    assert template.stop_strings == ("</s>",)
    assert get_template({**metadata, "end_tokens": ["<end>", "</s>"]}, None).stop_strings == ("<end>", "</s>")
    assert get_template({}, "phi-3") is TEMPLATES["phi-3"]


@pytest.mark.parametrize("picked", [None, "", "phi-4"])
def test_without_either_an_error_lists_the_templates(picked: str | None) -> None:
    with pytest.raises(NoTemplateError):
        get_template({"chat_template": None}, picked)
