"""Rounds of comparisons, and votes on them."""

from dataclasses import replace

from phi3_ui.chat.comparison import Exclusion, Preference, RoundPlace
from phi3_ui.chat.conversation import Conversation, new_id
from phi3_ui.store.conversations.operations import TurnRecord, VoteRecord
from tests.store.conversations.chats import ME, make_answer, make_record, make_request

AT = 1_700_000_000.0


def make_round(
    visitor_id: str = ME, models: tuple[str, ...] = ("m-1", "m-2"), asked_at: float | None = None
) -> list[TurnRecord]:
    """Return the answers of these models to one question, as variants in one conversation."""
    conversation_id, round_id, records = new_id(), new_id(), list[TurnRecord]()
    for position, model in enumerate(models):
        request = replace(
            make_request(), model_id=model, round=RoundPlace(round_id, position, len(models), is_blind=True)
        )
        request = replace(request, asked_at=request.asked_at if asked_at is None else asked_at)
        conversation = Conversation().with_question("Why?", request).with_answer(make_answer(f"Because {position}."))
        records.append(make_record(conversation_id, conversation, visitor_id))
    return records


def vote_on(
    records: list[TurnRecord], preference: Preference, exclusion: Exclusion | None = None, reason: str = ""
) -> VoteRecord:
    turn_ids = tuple(record.turn.id for record in records)
    first = records[0]
    return VoteRecord(first.visitor_id, first.conversation_id, turn_ids, preference, AT, exclusion, reason)
