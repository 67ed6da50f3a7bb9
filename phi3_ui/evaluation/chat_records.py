"""Build prompt sets from chats: the request of each chosen answer, and the answer itself if the user rated it good."""

from collections.abc import Collection, Iterator

from phi3_ui.chat.conversation import Conversation, Turn
from phi3_ui.errors import UserError
from phi3_ui.evaluation.prompt_set import EXPECTED_RESPONSE, PromptRecord
from phi3_ui.store.conversations.history import History
from phi3_ui.store.conversations.traces import trace_id_for


def build_records(conversation: Conversation, turn_ids: Collection[str]) -> list[PromptRecord]:
    """Return the requests of these turns, with their history. The answer is the expected response if it was rated good."""
    return [_build_record(conversation, turn) for turn in conversation.tree if turn.id in turn_ids]


def build_rated_records(conversation: Conversation) -> list[PromptRecord]:
    """Return the requests of all rated turns; see `build_records`."""
    return build_records(conversation, {turn.id for turn in conversation.tree if turn.feedback})


def collect_rated_records(
    history: History, visitor_id: str, conversation_ids: Collection[str] | None = None
) -> list[PromptRecord]:
    """Return the requests of a visitor's rated turns, in all of their chats or in the given ones. Unreadable chats are skipped.

    Raises:
        UserError: nothing_rated, store_unreachable.
    """
    records = [
        record
        for conversation in _load_all(history, visitor_id, conversation_ids)
        for record in build_rated_records(conversation)
    ]
    if not records:
        raise UserError("nothing_rated")
    return records


def _load_all(history: History, visitor_id: str, conversation_ids: Collection[str] | None) -> Iterator[Conversation]:
    for summary in history.list_conversations(visitor_id):
        if conversation_ids is None or summary.id in conversation_ids:
            try:
                yield history.load(visitor_id, summary.id)
            except UserError as error:
                if error.code not in ("no_such_chat", "chat_busy", "chat_unreadable"):
                    raise


def _build_record(conversation: Conversation, turn: Turn) -> PromptRecord:
    system = turn.request.system if turn.request else ""
    answer = turn.answer.text if turn.answer and not turn.answer.error else ""
    is_good = turn.feedback is not None and turn.feedback.good and bool(answer)
    return PromptRecord(
        conversation.truncated_at(turn.id).build_messages(system),
        {EXPECTED_RESPONSE: answer} if is_good else {},
        trace_id_for(turn.id),
    )
