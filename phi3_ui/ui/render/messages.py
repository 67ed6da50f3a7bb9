"""A conversation as the messages that Gradio's Chatbot draws."""

from collections.abc import Callable, Iterator
from typing import Any

from markupsafe import Markup

from phi3_ui.chat.conversation import Answer, Conversation, Turn
from phi3_ui.chat.running_turn import TurnSnapshot
from phi3_ui.errors import UserError
from phi3_ui.i18n.translate import format_number, format_seconds, tr, tr_error
from phi3_ui.ui.render.markdown import escape_html
from phi3_ui.ui.render.templating import render

ChatbotMessage = dict[str, str]

_CONTEXT_CUT = Markup('<span class="phi3-by phi3-cut">{}</span>')
_WAITING = Markup('<span class="phi3-wait">{}</span>')


def chatbot_messages(
    language: str,
    conversation: Conversation,
    state: TurnSnapshot | None = None,
    link: Callable[[Turn], str] = lambda _: "",
) -> list[ChatbotMessage]:
    """All messages of the shown branch, an answer's followed by its caption with the action buttons.

    `state` is the running turn's, if there is one; `link` returns the HTML of a link to a turn's trace, or nothing.
    """
    messages: list[ChatbotMessage] = []
    first_in_context = conversation.first_turn_in_context
    for index, turn in enumerate(conversation.turns):
        if index == first_in_context > 0:
            messages.append(_assistant(_CONTEXT_CUT.format(tr(language, "context.cut", count=first_in_context))))
        messages.append({"role": "user", "content": escape_html(turn.question)})
        if turn.answer:
            messages += _answer(language, conversation, turn, turn.answer, link(turn))
        elif state:
            messages.append(_assistant(escape_html(state.text) if state.text else _waiting(language, state)))
    if state is None and (turn_id := conversation.redo_turn_id):
        messages.append(_assistant(render("undone.html", language, turn_id=turn_id)))
    return messages


def _assistant(content: str) -> ChatbotMessage:
    return {"role": "assistant", "content": str(content)}


def _answer(
    language: str, conversation: Conversation, turn: Turn, answer: Answer, link: str
) -> Iterator[ChatbotMessage]:
    if answer.text:
        yield _assistant(escape_html(answer.text))
    yield _assistant(
        render(
            "answer_caption.html",
            language,
            error=tr_error(language, UserError(answer.error[0], **answer.error[1])) if answer.error else "",
            model=answer.model,
            metrics=list(_metrics(language, answer)),
            turn_id=turn.id,
            variants=_variants(conversation, turn),
            actions=_actions(turn, answer, is_last=turn.id == conversation.leaf),
            rating=("good" if turn.feedback.good else "bad") if turn.feedback else "",
            link=link,
        )
    )


def _variants(conversation: Conversation, turn: Turn) -> dict[str, Any]:
    """The turn's position among its variants, from 1, and the ids of its neighbours."""
    ids = conversation.variant_ids(turn.id)
    index = ids.index(turn.id)
    return {
        "position": index + 1,
        "count": len(ids),
        "previous": ids[index - 1] if index else None,
        "next": ids[index + 1] if index + 1 < len(ids) else None,
    }


def _actions(turn: Turn, answer: Answer, is_last: bool) -> list[str]:
    names = ["retry", "edit"]
    if is_last:
        names.append("undo")
    if answer.text:
        names += ["good", "bad", "reproduce"]
    return names


def _metrics(language: str, answer: Answer) -> Iterator[str]:
    if usage := answer.usage:
        yield tr(language, "tokens", prompt=usage.prompt_tokens, count=usage.completion_tokens)
    if answer.timings and answer.timings.time_to_first_token is not None:
        yield format_seconds(language, answer.timings.time_to_first_token)
    if answer.timings and answer.timings.tokens_per_second is not None:
        yield tr(language, "rate", rate=format_number(language, answer.timings.tokens_per_second))
    if answer.finish_reason == "stop" and not answer.text:
        yield tr(language, "finish.empty")
    if answer.finish_reason != "stop":
        yield tr(language, f"finish.{answer.finish_reason or 'error'}")
    if answer.context and answer.context.max_tokens is not None:
        yield tr(language, "context.max_tokens", count=answer.context.max_tokens)


def _waiting(language: str, state: TurnSnapshot) -> Markup:
    if state.phase == "loading":
        text = tr(language, "wait.loading")
    elif state.phase == "queued":
        text = tr(language, "wait.queued", count=state.ahead)
    elif state.progress and state.progress.processed:
        text = tr(language, "wait.prefill_progress", processed=state.progress.processed, count=state.progress.total)
    else:
        text = tr(language, "wait.prefill")
    return _WAITING.format(text)
