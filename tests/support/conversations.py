"""Conversations with every kind of content, as examples and Hypothesis strategies, and rejected chat files."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import strategies as st

from phi3_ui.chat.conversation import Answer, Conversation, Feedback, Turn, TurnRequest
from phi3_ui.chat.types import ContextUsage, GenerationParams, Timings, Usage
from phi3_ui.errors import UserError
from phi3_ui.export.chat_file import read_chats

counts = st.integers(0, 2**53)
_floats = st.floats(allow_nan=False, allow_infinity=False)
_fragments = [
    "# ",
    "## Question 1\n",
    "```",
    "~~~",
    "> ",
    "- ",
    "<!--",
    "<b>",
    "===",
    "[a]: b",
    "\r",
    "\n",
    "\n\n",
    "    ",
    "`",
    "*",
]
texts = st.text(max_size=20) | st.lists(st.sampled_from(_fragments) | st.text(max_size=3), max_size=8).map("".join)
_params = st.builds(
    GenerationParams,
    max_tokens=st.none() | counts,
    temperature=st.none() | _floats,
    stop=st.lists(texts, max_size=2).map(tuple),
    seed=st.none() | counts,
)
_errors: st.SearchStrategy[Any] = st.tuples(st.just("unexpected"), st.builds(dict, detail=texts | counts, other=texts))
_answers = st.builds(
    Answer,
    model=texts,
    text=texts,
    usage=st.none() | st.builds(Usage, counts, counts, st.none() | counts),
    timings=st.none() | st.builds(Timings, st.none() | _floats, _floats, st.none() | _floats),
    finish_reason=st.none() | st.sampled_from(["stop", "length", "cancelled", "timeout"]),
    error=st.none() | _errors,
    context=st.none() | st.builds(ContextUsage, counts, counts, st.just(0), st.none() | counts),
    load_seconds=st.none() | _floats,
)
_requests = st.builds(TurnRequest, st.floats(0, 4e9), texts, texts, _params, st.none() | texts)


@st.composite
def conversations(draw: st.DrawFn) -> Conversation:
    tree = list[Turn]()
    for _ in range(draw(st.integers(0, 5))):
        parent = draw(st.sampled_from([None, *(turn.id for turn in tree)]))
        feedback = draw(st.none() | st.builds(Feedback, st.booleans(), texts))
        answer = draw(st.none() | _answers)
        tree.append(Turn(draw(texts), answer, parent=parent, request=draw(st.none() | _requests), feedback=feedback))
    return Conversation(tuple(tree), draw(st.sampled_from([None, *(turn.id for turn in tree)])))


def without_ids(conversation: Conversation) -> Conversation:
    """Replace the turns' ids with their positions."""
    positions: dict[str | None, Any] = {turn.id: str(number) for number, turn in enumerate(conversation.tree)}
    tree = (replace(turn, id=positions[turn.id], parent=positions.get(turn.parent)) for turn in conversation.tree)
    return Conversation(tuple(tree), positions.get(conversation.leaf))


def make_conversation() -> Conversation:
    """Return a conversation with two questions, the first in two variants."""
    request = TurnRequest(1e9, "m-1", "Be brief.", GenerationParams(temperature=0))
    first = (
        Conversation()
        .with_question("one", request)
        .with_answer(Answer("phi", "1", Usage(37, 5, 12), Timings(0.1, 1, 98.12)))
    )
    variant = first.with_variant(first.turns[0].id, "uno", request).with_answer(
        Answer("phi", "I", Usage(37, 5, 12), Timings(0.1, 1, 98.12), "length")
    )
    return variant.with_feedback(variant.leaf or "", Feedback(False, "too\nshort")).with_question("two", request)


def read_rejection(content: bytes) -> str:
    """Return the reason why `content` is rejected as a chat file."""
    with pytest.raises(UserError) as rejected:
        read_chats(content)
    assert rejected.value.code == "invalid_chat_file"
    return str(rejected.value.values["detail"])
