"""A comparison as data, drawn by static/compare/. Before the vote on a blind round, nothing in it reveals who answered."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NotRequired, TypedDict

from phi3_ui.arena.pacing import hold_back
from phi3_ui.chat.comparison import Preference, Verdict
from phi3_ui.chat.conversation import Answer, Conversation, Turn
from phi3_ui.errors import UserError
from phi3_ui.export.votes import VotedRound
from phi3_ui.i18n.hide_paths import hide_paths
from phi3_ui.i18n.translate import tr, tr_error
from phi3_ui.ui.comparison_state import AskedRound, Comparison
from phi3_ui.ui.render.labels import split_answer_label
from phi3_ui.ui.render.messages import Badge, describe_badge, describe_metrics

LETTERS = "ABCD"


class SideView(TypedDict):
    """One answer of a round."""

    text: str
    state: str
    """Text of the chip beside the side's name."""
    model: NotRequired[str]
    """This and the following fields are only present if the models are not hidden."""
    badge: NotRequired[Badge]
    metrics: NotRequired[str]
    error: NotRequired[str]
    standing: NotRequired[str]
    """The answer's standing according to the vote."""


class RoundView(TypedDict):
    """A question with its answers."""

    id: str
    question: str
    running: bool
    hidden: bool
    """Whether the models are hidden."""
    sides: list[SideView]
    choices: list[str]
    """Possible votes: places, counted from 0, `tie`, `both_bad`; empty if voting is not possible."""
    note: str
    """The vote, and why it does not count for ratings."""


class SideChoice(TypedDict):
    """A side that the next question is for."""

    model: str
    """Model id."""
    preset: str
    system: str


class ComparisonView(TypedDict):
    """The data of the view."""

    at: float
    """When it was created, in seconds since the epoch: responses may overtake each other."""
    id: str
    running: bool
    note: str
    sides: list[SideChoice]
    """The sides that the next question is for; their order is unrelated to the places."""
    rounds: list[RoundView]
    """All rounds, or only the last one if `partial`."""
    partial: bool
    history: NotRequired[list[list[str]]]
    """Questions and answers before the first round."""
    draft: NotRequired[str]
    """A question to put into the composer of a comparison without any rounds yet."""
    models: NotRequired[list[tuple[str, str]]]
    """The models to choose from: id and label."""


@dataclass(frozen=True)
class Outcome:
    """A vote, assembled from its verdicts on the answers."""

    preference: Preference
    verdict: Verdict


def describe_round(
    language: str, comparison: Comparison, asked: AskedRound, verdicts: Mapping[str, Verdict]
) -> RoundView:
    """Describe a round as the page may show it now. `verdicts` are those of the comparison, by turn id."""
    is_running = comparison.is_running and asked is comparison.rounds[-1]
    running = [comparison.chats[position].running for position in asked.places]  # read before the answers
    turns = comparison.find_turns(asked)
    outcome = find_outcome(turns, verdicts)
    is_hidden = asked.is_blind and outcome is None
    texts = [
        turn.answer.text if turn and turn.answer else one.snapshot.text if one else ""
        for turn, one in zip(turns, running, strict=True)
    ]
    if is_running and asked.is_blind:
        texts = hold_back(texts)
    is_loading = any(one and one.snapshot.phase == "loading" for one in running)
    sides = list[SideView]()
    for turn, text in zip(turns, texts, strict=True):
        answer = turn.answer if turn else None
        is_open = is_running and (asked.is_blind or answer is None)
        state = _describe_state(language, answer, is_open, is_hidden)
        if is_open and is_loading and not text:  # in a blind round, no side has any text then, so all show it
            state = tr(language, "compare.loading")
        side: SideView = {"text": text, "state": state}
        if answer and not is_open:
            side |= _describe_failure(language, answer) if is_hidden else _describe_answer(language, answer)
        if turn and (verdict := verdicts.get(turn.id)):
            side["standing"] = verdict.standing
        sides.append(side)
    return {
        "id": asked.id,
        "question": asked.question,
        "running": is_running,
        "hidden": is_hidden,
        "sides": sides,
        "choices": [] if is_running or outcome else list_choices(turns),
        "note": _describe_outcome(language, outcome) if outcome else "",
    }


def describe_history(comparison: Comparison) -> list[list[str]]:
    """Return the turns before the first round, without their models."""
    return [[turn.question, turn.answer.text if turn.answer else ""] for turn in comparison.history]


def list_choices(turns: Sequence[Turn | None]) -> list[str]:
    """Return the possible votes on a round that has ended; if a side was not asked, only `both_bad`."""
    if any(turn is None or turn.answer is None for turn in turns) or len(turns) < _count_places(turns):
        return ["both_bad"]
    return [*map(str, range(len(turns))), "tie", "both_bad"]


def find_outcome(turns: Sequence[Turn | None], verdicts: Mapping[str, Verdict]) -> Outcome | None:
    """Return the vote on a round; None if there is none."""
    found = [verdicts.get(turn.id) if turn else None for turn in turns]
    first = next(filter(None, found), None)
    if first is None:
        return None
    if first.standing in ("tie", "both_bad"):
        return Outcome(first.standing, first)
    return Outcome(next((place for place, one in enumerate(found) if one and one.standing == "won"), 0), first)


def find_voted(comparison: Comparison, verdicts: Mapping[str, Verdict]) -> list[VotedRound]:
    """Return the rounds of a comparison that have a vote, for the export."""
    voted = list[VotedRound]()
    for asked in comparison.rounds:
        turns = comparison.find_turns(asked)
        if (outcome := find_outcome(turns, verdicts)) is None:
            continue
        branches = tuple(
            Conversation(comparison.chats[position].conversation.tree, turn.id)
            for position, turn in zip(asked.places, turns, strict=True)
            if turn
        )
        verdict = outcome.verdict
        voted.append(
            VotedRound(comparison.id, asked.id, branches, outcome.preference, verdict.exclusion, verdict.reason)
        )
    return voted


def _count_places(turns: Sequence[Turn | None]) -> int:
    return max((turn.request.round.places for turn in turns if turn and turn.request and turn.request.round), default=0)


def _describe_state(language: str, answer: Answer | None, is_open: bool, is_hidden: bool) -> str:
    if is_open:
        return tr(language, "compare.streaming")
    if answer is None:
        return tr(language, "compare.not_asked")
    if answer.error:
        return tr(language, "finish.error")
    if answer.finish_reason == "stop" or (is_hidden and answer.finish_reason != "cancelled"):
        return tr(language, "compare.finished")
    return tr(language, f"finish.{answer.finish_reason}")


def _describe_failure(language: str, answer: Answer) -> SideView:
    """Tell that an answer has failed, without the error message, which may name the model."""
    failed: dict[str, str] = {"error": tr(language, "compare.failed")} if answer.error else {}
    return failed  # type: ignore[return-value]  # a part of one


def _describe_answer(language: str, answer: Answer) -> SideView:
    model, _ = split_answer_label(answer.model)
    shown: dict[str, object] = {
        "model": model,
        "badge": describe_badge(answer.model),
        "metrics": " · ".join(describe_metrics(language, answer)[0]),
    }
    if answer.error:
        shown["error"] = hide_paths(tr_error(language, UserError(answer.error[0], **answer.error[1])))
    return shown  # type: ignore[return-value]  # a part of one


def _describe_outcome(language: str, outcome: Outcome) -> str:
    preference = outcome.preference
    if isinstance(preference, int):
        said = tr(language, "compare.voted", letter=LETTERS[preference])
    else:
        said = tr(language, f"compare.voted.{preference}")
    if outcome.verdict.exclusion:
        said = f"{said} {tr(language, f'compare.excluded.{outcome.verdict.exclusion}')}"
    if outcome.verdict.reason:
        said = f"{said} {tr(language, 'compare.voted.reason', reason=outcome.verdict.reason)}"
    return said
