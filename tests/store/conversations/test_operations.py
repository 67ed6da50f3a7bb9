"""Journal entries: every operation survives the round trip, and those of earlier versions can be read."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from phi3_ui.chat.conversation import Feedback, new_id
from phi3_ui.chat.types import Message
from phi3_ui.store.conversations.journal import Journal
from phi3_ui.store.conversations.operations import (
    FORMAT,
    ConversationDeletion,
    ConversationImport,
    FeedbackChange,
    Operation,
    TagChange,
    TurnRecord,
    VoteRecord,
    parse_operation,
    serialize_operation,
)
from tests.store.conversations.chats import ME, make_conversation, make_record

_VERSION_0_1_0: dict[str, dict[str, Any]] = {
    "record": {
        "person": "v",
        "conversation": "c",
        "turn": {
            "question": "Hi",
            "answer": None,
            "id": "a" * 32,
            "parent": None,
            "asked": {"at": 4.0, "model_id": "m"},
            "feedback": None,
        },
        "model": "phi-3",
        "messages": [{"role": "user", "content": "Hi"}],
        "ended": 5.0,
        "version": "0.1.0",
        "kind": "record",
    },
    "rate": {
        "person": "v",
        "conversation": "c",
        "turn_id": "t",
        "feedback": {"good": True, "comment": "Yes"},
        "kind": "rate",
    },
    "mark": {"person": "v", "conversation": "c", "turn_id": "t", "key": "k", "value": "x", "kind": "mark"},
    "delete": {"person": "v", "conversation": "c", "due": 7.0, "kind": "delete"},
}


@pytest.mark.parametrize(
    "operation",
    [
        make_record(new_id(), make_conversation()),
        FeedbackChange(ME, "c", "t", Feedback(False, "No")),
        FeedbackChange(ME, "c", "t", None),
        TagChange(ME, "c", "t", "key", "value"),
        VoteRecord(ME, "c", ("t", "u"), 1, 5.0, "stopped", "Clearer"),
        VoteRecord(ME, "c", ("t", "u"), "tie", 5.0),
        ConversationDeletion(ME, "c", 5.0),
        ConversationImport(ME, "c", make_conversation().tree, {"key": "value"}, "0"),
    ],
)
def test_an_operation_survives_the_round_trip(operation: Operation) -> None:
    expected = replace(operation, messages=None) if isinstance(operation, TurnRecord) else operation
    assert parse_operation(serialize_operation(operation)) == expected


def test_operations_of_a_later_format_are_refused() -> None:
    text = serialize_operation(TagChange(ME, "c", "t", "key", "value"))
    assert text.startswith(b'{"format":%d,' % FORMAT)
    with pytest.raises(ValueError, match="another version"):
        parse_operation(text.replace(b'"format":%d' % FORMAT, b'"format":%d' % (FORMAT + 1)))


@pytest.mark.parametrize("kind", _VERSION_0_1_0)
def test_operations_of_version_0_1_0_are_read_and_keep_their_format(kind: str) -> None:
    stored = _VERSION_0_1_0[kind]
    operation = parse_operation(json.dumps(stored))
    assert (operation.visitor_id, operation.conversation_id, operation.kind) == ("v", "c", kind)
    if isinstance(operation, TurnRecord):
        assert operation.messages == (Message("user", "Hi"),)
    written = json.loads(serialize_operation(operation))
    unchanged = {name: value for name, value in stored.items() if name != "messages"}
    assert {**written, "turn": None} == {**unchanged, "turn": None, "format": FORMAT}


def test_a_journal_of_version_0_1_0_is_recovered(tmp_path: Path) -> None:
    folder = tmp_path / "0123456789abcdef"
    folder.mkdir()
    for number, stored in enumerate((_VERSION_0_1_0["mark"], _VERSION_0_1_0["delete"]), 1):
        (folder / f"{number:012}.json").write_text(json.dumps(stored), encoding="utf-8")
    draft = [json.dumps(_VERSION_0_1_0["record"]), json.dumps("Once "), json.dumps("upon"), '"a ti']
    (folder / f"{'a' * 32}.part").write_text("\n".join(draft), encoding="utf-8")
    journal = Journal(tmp_path, 1_000_000)

    tag, deletion, turn = journal.recover()

    assert (tag, deletion) == (TagChange("v", "c", "t", "k", "x"), ConversationDeletion("v", "c", 7.0))
    assert isinstance(turn, TurnRecord)
    assert turn.turn.request
    assert turn.turn.request.asked_at == 4.0
    assert turn.turn.answer
    assert (turn.turn.answer.text, turn.turn.answer.error) == ("Once upon", ("interrupted", {}))
    assert not folder.exists()
    journal.close()
