"""A conversation as the data of its messages, which static/chat/ draws and API clients receive."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Literal, NotRequired, TypedDict, cast

from jinja2.utils import htmlsafe_json_dumps

from phi3_ui.chat.conversation import Answer, Conversation, Turn, split_files
from phi3_ui.chat.draft import estimate_tokens
from phi3_ui.chat.running_turn import TurnSnapshot
from phi3_ui.errors import UserError
from phi3_ui.i18n.hide_paths import hide_paths
from phi3_ui.i18n.translate import format_number, format_seconds, tr, tr_error
from phi3_ui.ui.render.labels import find_engine, split_answer_label
from phi3_ui.ui.render.mlflow_links import Link

_BADGES = {"onnxruntime-genai": "ONNX", "transformers": "TF", "python": "PY", "openai": "API", "remote": "API"}
_LONGEST_BADGE = 4


class ActionButton(TypedDict):
    """A button whose click static/actions.js forwards to the page's one handler."""

    name: str
    """The action."""
    value: str
    """Id of the object that it acts on."""
    label: str
    """Its name for users; a button with an icon shows it as a tooltip."""
    icon: NotRequired[str]
    """Id of the icon shown instead of its label."""
    pressed: NotRequired[bool]
    """Only for a toggle button."""


class Variants(TypedDict):
    """A turn's position among its variants, from 1, and the buttons that show its neighbours."""

    position: int
    count: int
    previous: ActionButton | None
    next: ActionButton | None


class Caption(TypedDict):
    """The line below a message's text."""

    kind: Literal["answer", "waiting", "cut", "switch", "undone", "continued"]
    parts: list[str]
    """The metrics, or the sentence of a caption that belongs to no answer."""
    short: NotRequired[list[str]]
    """The metrics without their names, for a narrow page."""
    model: NotRequired[str]
    error: NotRequired[str]
    variants: NotRequired[Variants]
    actions: NotRequired[list[ActionButton]]
    more: NotRequired[list[ActionButton]]
    """The actions of the menu."""
    link: NotRequired[dict[str, str]]


class Badge(TypedDict):
    """The engine of an answer."""

    short: str
    """At most four characters."""
    engine: str


class ChatMessage(TypedDict):
    """A message of the shown branch."""

    role: Literal["user", "assistant"]
    content: str
    """Exactly what the user typed or the model wrote; the app's own text in a question with the caption "continued"."""
    turn: NotRequired[str]
    """Id of the turn; a note has none."""
    time: NotRequired[float]
    """When the question was asked, in seconds since the epoch, UTC; unknown in an imported chat."""
    badge: NotRequired[Badge]
    """Missing if the model is unknown, as in an imported chat."""
    caption: NotRequired[Caption]
    files: NotRequired[list[str]]
    """The token count of each attached file of a question, as text; possibly estimated."""


@dataclass(frozen=True)
class RunningAnswer:
    """A chat's answer in progress."""

    state: TurnSnapshot | None
    """None until it is known."""
    model: str = ""
    """Label of the model, as in Answer; empty if unknown."""


def chat_messages(
    language: str,
    conversation: Conversation,
    running: RunningAnswer | None = None,
    link: Callable[[Turn], Link | None] = lambda _: None,
    count_files: Callable[[Turn], Sequence[int] | None] = lambda _: None,
) -> list[ChatMessage]:
    """Return all messages of the shown branch. Notes between them are messages without content.

    `running` is the answer in progress, if any; `link` returns the link to a turn's trace, if any, and `count_files` the
    tokens of each attached file of its question, if known.
    """
    messages: list[ChatMessage] = []
    first_in_context = conversation.first_turn_in_context
    model = ""
    for index, turn in enumerate(conversation.turns):
        if index == first_in_context > 0:
            messages.append(_note("cut", tr(language, "context.cut", count=first_in_context)))
        label = turn.answer.model if turn.answer else running.model if running else ""
        if model and label not in ("", model):
            name, _ = split_answer_label(label)
            messages.append(_note("switch", tr(language, "answers_from_here", model=name)))
        model = label or model
        messages.append(_question(language, turn, count_files))
        if turn.answer:
            messages.append(_answer(language, conversation, turn, turn.answer, link(turn)))
    if running and (message := running_message(language, conversation, running)):
        messages.append(message)
    if running is None and (turn_id := conversation.redo_turn_id):
        redo: ActionButton = {"name": "show", "value": turn_id, "label": _button_label(language, "redo")}
        messages.append(_note("undone", tr(language, "actions.undone"), [redo]))
    return messages


def running_message(language: str, conversation: Conversation, running: RunningAnswer) -> ChatMessage | None:
    """Return the answer in progress to the last shown turn: its text so far, or what it waits for; None if unknown or ended."""
    state = running.state
    if state is None or not conversation.turns or (turn := conversation.turns[-1]).answer:
        return None
    message: ChatMessage = {"role": "assistant", "content": state.text, "turn": turn.id}
    if running.model:
        message["badge"] = describe_badge(running.model)
    if state.phase not in ("decode", "done"):
        message["caption"] = {"kind": "waiting", "parts": [_waiting(language, state)]}
    return message


def with_running(messages: list[ChatMessage], message: ChatMessage) -> list[ChatMessage]:
    """Return `messages` with the newer state of the answer in progress."""
    kept = messages[:-1] if messages and messages[-1]["role"] == "assistant" else messages
    return [*kept, message]


def encode_messages(messages: list[ChatMessage]) -> str:
    """Encode the messages as JSON, the value of the page's chat.

    A string, because Gradio's page copies and compares every part of a value whenever anything in its component is updated;
    HTML-safe, because Gradio warns about script tags in a value.
    """
    return str(htmlsafe_json_dumps(messages, ensure_ascii=False))


def decode_messages(value: str) -> list[ChatMessage]:
    """Decode the messages in a value of the page's chat."""
    return cast(list[ChatMessage], json.loads(value))


def _question(language: str, turn: Turn, count_files: Callable[[Turn], Sequence[int] | None]) -> ChatMessage:
    message: ChatMessage = {"role": "user", "content": turn.question, "turn": turn.id}
    if files := split_files(turn.question)[0]:
        counts = count_files(turn)
        key = "attach.about_tokens" if counts is None else "attach.tokens"
        message["files"] = [
            tr(language, key, count=count) for count in counts or [estimate_tokens(block) for _, block in files]
        ]
    if turn.request:
        message["time"] = turn.request.asked_at
        if turn.request.continues:
            message["caption"] = {"kind": "continued", "parts": [tr(language, "continued")]}
    return message


def _answer(language: str, conversation: Conversation, turn: Turn, answer: Answer, link: Link | None) -> ChatMessage:
    message: ChatMessage = {
        "role": "assistant",
        "content": answer.text,
        "turn": turn.id,
        "caption": _caption(language, conversation, turn, answer, link),
    }
    if answer.model:
        message["badge"] = describe_badge(answer.model)
    return message


@lru_cache
def describe_badge(label: str) -> Badge:
    """Return the badge for an answer's label."""
    name, engine = split_answer_label(label)
    return {"short": _BADGES.get(find_engine(label) or "", name[:_LONGEST_BADGE].upper()), "engine": engine or name}


def _note(
    kind: Literal["cut", "switch", "undone"], sentence: str, actions: list[ActionButton] | None = None
) -> ChatMessage:
    caption: Caption = {"kind": kind, "parts": [sentence], "actions": actions or []}
    return {"role": "assistant", "content": "", "caption": caption}


def _caption(language: str, conversation: Conversation, turn: Turn, answer: Answer, link: Link | None) -> Caption:
    is_last = turn.id == conversation.leaf
    name, _ = split_answer_label(answer.model)
    parts, short = describe_metrics(language, answer)
    caption: Caption = {
        "kind": "answer",
        "model": name,
        "parts": parts,
        "short": short,
        "actions": [_button(language, action, turn.id, turn) for action in _actions(turn, answer, is_last)],
        "more": [_button(language, action, turn.id, turn) for action in (*(["undo"] if is_last else ()), "compare")],
    }
    if answer.error:
        sentence = hide_paths(tr_error(language, UserError(answer.error[0], **answer.error[1])))
        caption["error"] = f"{sentence} {tr(language, 'finish.text_kept')}" if answer.text else sentence
    if variants := _variants(language, conversation, turn):
        caption["variants"] = variants
    if link:
        caption["link"] = asdict(link)
    return caption


def _button(language: str, name: str, value: str, turn: Turn) -> ActionButton:
    """Return the button `name` with the icon of that name; "continue", which is rare, has a text instead."""
    button: ActionButton = {"name": name, "value": value, "label": _button_label(language, name)}
    if name != "continue":
        button["icon"] = name
    if name in ("good", "bad"):
        button["pressed"] = turn.feedback is not None and turn.feedback.good == (name == "good")
    return button


@lru_cache  # a long chat has hundreds of buttons, and is redrawn several times a second
def _button_label(language: str, name: str) -> str:
    return tr(language, f"actions.{name}")


def _variants(language: str, conversation: Conversation, turn: Turn) -> Variants | None:
    """Return the turn's variants; None if there is only one."""
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


def _actions(turn: Turn, answer: Answer, is_last: bool) -> list[str]:
    names = ["continue"] if is_last and answer.finish_reason == "length" and answer.text else []
    names += ["retry"] if turn.request and turn.request.continues else ["retry", "edit"]
    if answer.text:
        names += ["good", "bad", "reproduce"]
    return names


def describe_metrics(language: str, answer: Answer) -> tuple[list[str], list[str]]:
    """Return the metrics with their names, and without them."""
    named, short = list[str](), list[str]()

    def add(name: str, brief: str = "") -> None:
        named.append(name)
        short.append(brief or name)

    if usage := answer.usage:
        prompt, completion = (
            format_number(language, count) for count in (usage.prompt_tokens, usage.completion_tokens)
        )
        add(tr(language, "metrics.prompt", tokens=prompt), f"{prompt} + {completion}")
        named.append(tr(language, "metrics.completion", tokens=completion))
    if answer.timings and answer.timings.time_to_first_token is not None:
        seconds = format_seconds(language, answer.timings.time_to_first_token)
        add(tr(language, "metrics.first", seconds=seconds), seconds)
    if answer.timings and answer.timings.tokens_per_second is not None:
        rate = format_number(language, answer.timings.tokens_per_second)
        add(tr(language, "rate", rate=rate), f"{rate}/s")
    if answer.finish_reason == "stop" and not answer.text:
        add(tr(language, "finish.empty"))
    if answer.finish_reason != "stop":
        add(tr(language, f"finish.{answer.finish_reason or 'error'}"))
    if answer.ended_model:
        add(tr(language, "finish.ended_model"))
    if answer.context and answer.context.max_tokens is not None:
        add(tr(language, "context.max_tokens", count=answer.context.max_tokens))
    return named, short


def _waiting(language: str, state: TurnSnapshot) -> str:
    if state.phase == "loading":
        return tr(language, "wait.loading")
    if state.phase == "queued":
        return tr(language, "wait.queued", count=state.ahead)
    if state.phase == "thinking":
        return tr(language, "wait.thinking")
    if state.progress and state.progress.processed:
        return tr(language, "wait.prefill_progress", processed=state.progress.processed, count=state.progress.total)
    return tr(language, "wait.prefill")
