"""Conversations → what Gradio's Chatbot draws."""

import html
from collections.abc import Callable

from phi3_ui.chat.conversation import Answer, Conversation, Turn
from phi3_ui.chat.running_turn import TurnSnapshot
from phi3_ui.errors import UserError
from phi3_ui.i18n.translate import tr, tr_error
from phi3_ui.ui.render.actions import action_button
from phi3_ui.ui.render.markdown import display

ChatbotMessage = dict[str, str]


def chatbot_messages(
    language: str,
    conversation: Conversation,
    state: TurnSnapshot | None = None,
    link: Callable[[Turn], str] = lambda _: "",
) -> list[ChatbotMessage]:
    """All messages, an answer's followed by its caption and its buttons.

    `state` is the turn under way, if there is one; `link` gives the HTML of a link to an answered turn's trace, or nothing.
    """
    messages: list[ChatbotMessage] = []
    first_turn_in_context = conversation.first_turn_in_context
    for at, turn in enumerate(conversation.turns):
        if at == first_turn_in_context > 0:
            cut = tr(language, "context.cut", turns=first_turn_in_context)
            messages.append(
                {"role": "assistant", "content": f'<span class="phi3-by phi3-cut">{html.escape(cut)}</span>'}
            )
        messages.append({"role": "user", "content": display(turn.question)})
        if turn.answer:
            last = at == len(conversation.turns) - 1
            messages += _answer(language, turn.answer, _acts(language, conversation, turn, last, link(turn)))
        elif state:
            messages.append(
                {"role": "assistant", "content": display(state.text) if state.text else _waiting(language, state)}
            )
    if state is None and (undone := conversation.redo_turn_id):
        redo = action_button("show", undone, tr(language, "actions.redo"), tr(language, "actions.redo.title"))
        caption = f'<span class="phi3-by">{html.escape(tr(language, "actions.undone"))}</span>'
        messages.append({"role": "assistant", "content": f'{caption}<span class="phi3-actions">{redo}</span>'})
    return messages


def _answer(language: str, answer: Answer, acts: str) -> list[ChatbotMessage]:
    caption = f'<span class="phi3-by"><b>{html.escape(answer.model)}</b>{_figures(language, answer)}</span>'
    if answer.error:
        code, values = answer.error
        sentence = tr_error(language, UserError(code, **values))
        caption = f'<span class="phi3-error">{html.escape(sentence)}</span>\n\n{caption}'
    text = [{"role": "assistant", "content": display(answer.text)}] if answer.text else []
    return [*text, {"role": "assistant", "content": caption + acts}]


def _acts(language: str, conversation: Conversation, turn: Turn, last: bool, link: str) -> str:
    """What can be done to a turn: its versions, and the buttons below its answer."""
    versions = conversation.variant_ids(turn.id)
    at = versions.index(turn.id)
    parts = []
    if len(versions) > 1:
        before = action_button("show", versions[at - 1], "‹", tr(language, "actions.before")) if at else "‹"
        after = (
            action_button("show", versions[at + 1], "›", tr(language, "actions.after"))
            if at + 1 < len(versions)
            else "›"
        )
        parts.append(f'<span class="phi3-versions">{before} {at + 1}/{len(versions)} {after}</span>')
    names = ["retry", "edit"]
    if last:
        names.append("undo")
    if turn.answer and turn.answer.text:
        names += ["good", "bad", "reproduce"]
    given = {True: "good", False: "bad"}.get(turn.feedback.good) if turn.feedback else None
    for name in names:
        words = tr(language, f"actions.{name}")
        parts.append(
            action_button(
                name, turn.id, f"✓ {words}" if name == given else words, tr(language, f"actions.{name}.title")
            )
        )
    return f'<span class="phi3-actions">{"".join(parts)}{link}</span>'


def _figures(language: str, answer: Answer) -> str:
    figures = []
    if answer.usage:
        usage = answer.usage
        figures.append(tr(language, "tokens", prompt=usage.prompt_tokens, completion=usage.completion_tokens))
    if answer.timings and answer.timings.time_to_first_token is not None:
        figures.append(f"{answer.timings.time_to_first_token:.2f} s")
    if answer.timings and answer.timings.tokens_per_second is not None:
        figures.append(tr(language, "rate", rate=f"{answer.timings.tokens_per_second:.0f}"))
    if answer.finish_reason == "stop" and not answer.text:
        figures.append(tr(language, "finish.empty"))
    if answer.finish_reason != "stop":
        figures.append(tr(language, f"finish.{answer.finish_reason or 'error'}"))
    if answer.context and answer.context.max_tokens is not None:
        figures.append(tr(language, "context.max_tokens", count=answer.context.max_tokens))
    return "".join(f" · {html.escape(figure)}" for figure in figures)


def _waiting(language: str, state: TurnSnapshot) -> str:
    if state.phase == "loading":
        text = tr(language, "wait.loading")
    elif state.phase == "queued":
        text = tr(language, "wait.queued_one" if state.ahead == 1 else "wait.queued", count=state.ahead)
    elif state.progress and state.progress.processed:
        text = tr(language, "wait.reading_progress", processed=state.progress.processed, total=state.progress.total)
    else:
        text = tr(language, "wait.reading")
    return f'<span class="phi3-wait">{html.escape(text)}</span>'
