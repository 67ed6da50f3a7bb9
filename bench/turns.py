"""The first token of a long chat's last turn, against that of its first: is what was read before read again?"""

import random
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from bench.rows import Bench, Row, Said, ask, ratio
from phi3_ui.chat.types import Message
from phi3_ui.host.hosted_model import HostedModel

TURNS = 20
_ANSWER = 16  # tokens
_HISTORY = 3000  # tokens, at least
_WORDS = [
    "the",
    "sea",
    "and",
    "a",
    "boat",
    "went",
    "far",
    "from",
    "home",
    "while",
    "rain",
    "fell",
    "on",
    "old",
    "walls",
]

Ask = Callable[[list[Message], int], tuple[str, float]]
"""Messages and how many tokens to answer with → the answer, and seconds to its first text."""


@dataclass(frozen=True)
class Walk:
    """A chat of TURNS turns: seconds to the first text of the first and the last, and the last one's prompt."""

    first: float
    last: float
    messages: list[Message]


def question(chat: str, turn: int) -> Message:
    """Some 160 tokens, and other ones in each chat and turn, but as many."""
    words = random.Random(f"{chat} {turn}").choices(_WORDS, k=150)
    return Message("user", f"{chat} has more to tell: {' '.join(words)}. What comes next?")


def walk(ask_: Ask, chat: str) -> Walk:
    """Have the whole chat, each turn with the model's own answers before it."""
    messages, firsts = list[Message](), list[float]()
    for turn in range(TURNS):
        messages.append(question(chat, turn))
        text, first = ask_(messages, _ANSWER)
        firsts.append(first)
        if turn < TURNS - 1:
            messages.append(Message("assistant", text))
    return Walk(firsts[0], firsts[-1], messages)


def afresh(messages: list[Message]) -> list[Message]:
    """The same prompt to a token or two, which begins as none that was read before."""
    return [Message("user", f"Again, {messages[0].content}"), *messages[1:]]


def asked_of(model: HostedModel, seen: list[Said]) -> Ask:
    def ask_(messages: list[Message], tokens: int) -> tuple[str, float]:
        seen.append(ask(model, messages, tokens))
        return seen[-1].text, seen[-1].first

    return ask_


def onnx(bench: Bench) -> Iterator[Row]:
    yield from _rows(bench, "prompt", "ONNX", 1.5)


def pipeline(bench: Bench) -> Iterator[Row]:
    yield from _rows(bench, "chat", "pipeline", 3)


def _rows(bench: Bench, contract: str, name: str, aim: float) -> Iterator[Row]:
    walks, fresh, seen = list[Walk](), list[float](), list[Said]()
    with bench.hosted(contract) as model:
        for number in range(bench.rounds):
            walks.append(walk(asked_of(model, seen), f"Chat {number}"))
            fresh.append(asked_of(model, [])(afresh(walks[-1].messages), _ANSWER)[1])
    firsts = [one.first for one in walks]
    value, base = ratio((one.last for one in walks), firsts), statistics.median(firsts)
    tokens = seen[-1].usage.prompt_tokens
    if tokens < _HISTORY:
        raise RuntimeError(f"the chat has only {tokens} tokens")
    what = f"{name}: first token at turn {TURNS} ÷ turn 1"
    yield Row(f"{what}, {tokens} tokens of prompt", f"{value:.2f} (turn 1: {base:.2f} s)", f"≤ {aim}", value <= aim)
    yield Row(f"{name}: the same prompt read afresh ÷ turn 1", f"{ratio(fresh, firsts):.1f}")
