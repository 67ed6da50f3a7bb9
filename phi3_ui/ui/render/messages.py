"""A conversation as the messages that the chat shows, as data: static/chat/ draws them, and API clients receive them."""

from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import lru_cache
from typing import Literal, NotRequired, TypedDict

from phi3_ui.chat.conversation import Answer, Conversation, Turn
from phi3_ui.chat.running_turn import TurnSnapshot
from phi3_ui.errors import UserError
from phi3_ui.i18n.translate import format_number, format_seconds, tr, tr_error
from phi3_ui.ui.render.mlflow_links import Link


class ActionButton(TypedDict):
    """A button whose click static/actions.js forwards to the page's one handler."""

    name: str
    """The action."""
    value: str
    """Id of what it acts on."""
    label: str
    """Its name for people; a button with an icon shows it as a tooltip."""
    icon: NotRequired[str]
    """Id of the icon that it shows in place of its label."""
    pressed: NotRequired[bool]
    """For a button that is on or off."""


class Variants(TypedDict):
    """A turn's position among its variants, from 1, and the buttons that show its neighbours."""

    position: int
    count: int
    previous: ActionButton | None
    next: ActionButton | None


class Caption(TypedDict):
    """What is said below a message's text."""

    kind: Literal["answer", "waiting", "cut", "undone"]
    parts: list[str]
    """The metrics, or the one sentence of a caption that belongs to no answer."""
    model: NotRequired[str]
    error: NotRequired[str]
    variants: NotRequired[Variants]
    actions: NotRequired[list[ActionButton]]
    link: NotRequired[dict[str, str]]


class ChatMessage(TypedDict):
    """A message of the shown branch."""

    role: Literal["user", "assistant"]
    content: str
    """Exactly what the user typed or the model wrote."""
    caption: NotRequired[Caption]


def chat_messages(
    language: str,
    conversation: Conversation,
    state: TurnSnapshot | None = None,
    link: Callable[[Turn], Link | None] = lambda _: None,
) -> list[ChatMessage]:
    """All messages of the shown branch. Notes between them are messages without content.

    `state` is the running turn's, if there is one; `link` returns the link to a turn's trace, if there is one.
    """
    messages: list[ChatMessage] = []
    first_in_context = conversation.first_turn_in_context
    for index, turn in enumerate(conversation.turns):
        if index == first_in_context > 0:
            messages.append(_note("cut", tr(language, "context.cut", count=first_in_context)))
        messages.append({"role": "user", "content": turn.question})
        if turn.answer:
            caption = _caption(language, conversation, turn, turn.answer, link(turn))
            messages.append({"role": "assistant", "content": turn.answer.text, "caption": caption})
        elif state and state.text:
            messages.append({"role": "assistant", "content": state.text})
        elif state:
            messages.append(_note("waiting", _waiting(language, state)))
    if state is None and (turn_id := conversation.redo_turn_id):
        redo: ActionButton = {"name": "show", "value": turn_id, "label": _button_label(language, "redo")}
        messages.append(_note("undone", tr(language, "actions.undone"), [redo]))
    return messages


def _note(
    kind: Literal["waiting", "cut", "undone"], sentence: str, actions: list[ActionButton] | None = None
) -> ChatMessage:
    caption: Caption = {"kind": kind, "parts": [sentence], "actions": actions or []}
    return {"role": "assistant", "content": "", "caption": caption}


def _caption(language: str, conversation: Conversation, turn: Turn, answer: Answer, link: Link | None) -> Caption:
    is_last = turn.id == conversation.leaf
    caption: Caption = {
        "kind": "answer",
        "model": answer.model,
        "parts": list(_metrics(language, answer)),
        "actions": [_button(language, name, turn.id, turn) for name in _actions(answer, is_last)],
    }
    if answer.error:
        caption["error"] = tr_error(language, UserError(answer.error[0], **answer.error[1]))
    if variants := _variants(language, conversation, turn):
        caption["variants"] = variants
    if link:
        caption["link"] = asdict(link)
    return caption


def _button(language: str, name: str, value: str, turn: Turn) -> ActionButton:
    """A button with an icon; both are called `name`."""
    button: ActionButton = {"name": name, "value": value, "label": _button_label(language, name), "icon": name}
    if name in ("good", "bad"):
        button["pressed"] = turn.feedback is not None and turn.feedback.good == (name == "good")
    return button


@lru_cache  # a long chat has hundreds of buttons, and is drawn several times a second
def _button_label(language: str, name: str) -> str:
    return tr(language, f"actions.{name}")


def _variants(language: str, conversation: Conversation, turn: Turn) -> Variants | None:
    """None if there is only one."""
    ids = conversation.variant_ids(turn.id)
    if len(ids) == 1:
        return None

    def show(index: int, label: str) -> ActionButton | None:
        return {"name": "show", "value": ids[index], "label": tr(language, label)} if 0 <= index < len(ids) else None

    index = ids.index(turn.id)
    return {
        "position": index + 1,
        "count": len(ids),
        "previous": show(index - 1, "actions.before"),
        "next": show(index + 1, "actions.after"),
    }


def _actions(answer: Answer, is_last: bool) -> list[str]:
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


def _waiting(language: str, state: TurnSnapshot) -> str:
    if state.phase == "loading":
        return tr(language, "wait.loading")
    if state.phase == "queued":
        return tr(language, "wait.queued", count=state.ahead)
    if state.progress and state.progress.processed:
        return tr(language, "wait.prefill_progress", processed=state.progress.processed, count=state.progress.total)
    return tr(language, "wait.prefill")
