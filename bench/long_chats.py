"""Time to first token of a long chat's last turn compared with its first, which shows whether the prefix is reused."""

import random
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from bench.rows import Bench, Row, TimedAnswer, ask_model, median_ratio
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

AskTurn = Callable[[list[Message], int], tuple[str, float]]
"""(messages, maximum tokens) → (answer, seconds to its first text)."""


@dataclass(frozen=True)
class LongChat:
    """A chat of TURNS turns: seconds to first text of the first and last turn, and the prompt of the last one."""

    first: float
    last: float
    messages: list[Message]


def make_question(chat: str, turn: int) -> Message:
    """Return a question of about 160 tokens that differs for each chat and turn, but always has the same number of tokens."""
    words = random.Random(f"{chat} {turn}").choices(_WORDS, k=150)
    return Message("user", f"{chat} has more to tell: {' '.join(words)}. What comes next?")


def run_long_chat(ask_turn: AskTurn, chat: str) -> LongChat:
    """Run a complete chat, in which each turn follows the model's own answers."""
    messages, firsts = list[Message](), list[float]()
    for turn in range(TURNS):
        messages.append(make_question(chat, turn))
        text, first = ask_turn(messages, _ANSWER)
        firsts.append(first)
        if turn < TURNS - 1:
            messages.append(Message("assistant", text))
    return LongChat(firsts[0], firsts[-1], messages)


def replace_prefix(messages: list[Message]) -> list[Message]:
    """Return nearly the same prompt, with a prefix that is in no slot."""
    return [Message("user", f"Again, {messages[0].content}"), *messages[1:]]


def ask_hosted(model: HostedModel, seen: list[TimedAnswer]) -> AskTurn:
    def ask_turn(messages: list[Message], tokens: int) -> tuple[str, float]:
        seen.append(ask_model(model, messages, tokens))
        return seen[-1].text, seen[-1].first

    return ask_turn


def measure_onnx(bench: Bench) -> Iterator[Row]:
    yield from _measure_rows(bench, "prompt", "ONNX", 1.5)


def measure_pipeline(bench: Bench) -> Iterator[Row]:
    yield from _measure_rows(bench, "chat", "pipeline", 3)


def _measure_rows(bench: Bench, contract: str, name: str, target: float) -> Iterator[Row]:
    walks, fresh, seen = list[LongChat](), list[float](), list[TimedAnswer]()
    with bench.hosted(contract) as model:
        for number in range(bench.rounds):
            walks.append(run_long_chat(ask_hosted(model, seen), f"Chat {number}"))
            fresh.append(ask_hosted(model, [])(replace_prefix(walks[-1].messages), _ANSWER)[1])
    firsts = [one.first for one in walks]
    value, base = median_ratio((one.last for one in walks), firsts), statistics.median(firsts)
    tokens = seen[-1].usage.prompt_tokens
    if tokens < _HISTORY:
        raise RuntimeError(f"the chat has only {tokens} tokens")
    what = f"{name}: first token at turn {TURNS} ÷ turn 1"
    yield Row(f"{what}, {tokens} prompt tokens", f"{value:.2f} (turn 1: {base:.2f} s)", f"≤ {target}", value <= target)
    yield Row(f"{name}: the same prompt without prefix reuse ÷ turn 1", f"{median_ratio(fresh, firsts):.1f}")
