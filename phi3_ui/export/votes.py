"""The votes of a comparison as JSON Lines: for each round its prompts, answers, models and parameters."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from phi3_ui.chat.comparison import Exclusion, Preference
from phi3_ui.chat.conversation import Conversation


@dataclass(frozen=True)
class VotedRound:
    """A round with its vote."""

    comparison_id: str
    round_id: str
    branches: tuple[Conversation, ...]
    """From left to right: the conversation that ends with each answer."""
    preference: Preference
    exclusion: Exclusion | None
    reason: str


def write_votes(rounds: Iterable[VotedRound]) -> str:
    """Return the rounds as JSON Lines."""
    return "".join(f"{json.dumps(_describe(one), ensure_ascii=False)}\n" for one in rounds)


def _describe(voted: VotedRound) -> dict[str, Any]:
    return {
        "comparison": voted.comparison_id,
        "round": voted.round_id,
        "question": voted.branches[0].turns[-1].question,
        "preference": voted.preference,
        "counts": voted.exclusion is None,
        "exclusion": voted.exclusion,
        "reason": voted.reason,
        "answers": [_describe_answer(place, branch) for place, branch in enumerate(voted.branches)],
    }


def _describe_answer(place: int, branch: Conversation) -> dict[str, Any]:
    turn = branch.turns[-1]
    answer, request = turn.answer, turn.request
    prompt = branch.truncated_at(turn.id).build_messages(request.system if request else "")
    return {
        "place": place,
        "turn": turn.id,
        "asked_at": request.asked_at if request else None,
        "model": answer.model if answer else "",
        "model_id": request.model_id if request else "",
        "params": request.params.as_dict() if request else {},
        "messages": [{"role": message.role, "content": message.content} for message in prompt],
        "answer": answer.text if answer else "",
        "finish_reason": answer.finish_reason if answer else None,
        "usage": asdict(answer.usage) if answer and answer.usage else None,
        "timings": asdict(answer.timings) if answer and answer.timings else None,
    }
