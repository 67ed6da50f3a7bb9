"""One comparison on a page: each question asked of two to four sides, and each side's own history."""

import threading
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, replace

from phi3_ui.arena.rounds import draw_places
from phi3_ui.chat.conversation import Answer, Conversation, Turn, TurnRequest, new_id
from phi3_ui.chat.presets import PARAM_PRESETS
from phi3_ui.errors import UserError
from phi3_ui.ui.chat_state import Chat

MIN_SIDES, MAX_SIDES = 2, 4


@dataclass(frozen=True)
class Contestant:
    """A side of the comparison: a model, optionally with its own settings."""

    model_id: str
    preset: str = ""
    """Name of a preset of the sampling parameters; empty: those of the page's settings."""
    system: str = ""
    """System prompt; blank: that of the page's settings."""


@dataclass(frozen=True)
class AskedRound:
    """A question asked of all sides."""

    id: str
    question: str
    is_blind: bool
    places: tuple[int, ...]
    """Positions of the contestants, from left to right."""


@dataclass(frozen=True)
class Origin:
    """The answer of a chat that a comparison was opened from."""

    history: Conversation
    """The turns before its question, with which each side begins."""
    question: str
    """The question for all sides, unless the user writes another one."""


def find_origin(conversation: Conversation, turn_id: str) -> Origin:
    """Return the question of a turn, with a copy of the turns before it: new turns, without what must count only once, such as tokens."""
    turn, history = conversation.get_turn(turn_id), Conversation()
    for before in Conversation(conversation.tree, turn.parent).turns:
        answer = before.answer or Answer("", "")
        history = history.with_question(before.question, before.request and replace(before.request, round=None))
        history = history.with_answer(Answer(answer.model, answer.text, finish_reason="stop"))
    return Origin(history, turn.question)


class Comparison:
    """A comparison, in progress or ended. At most one round at a time runs, from try_start to finish. Thread-safe."""

    def __init__(
        self,
        contestants: Iterable[Contestant],
        chat_id: str | None = None,
        branches: Iterable[Conversation] = (),
        rounds: Iterable[AskedRound] = (),
        origin: Origin | None = None,
    ) -> None:
        """`branches` are the histories of the contestants, in their order; by default empty.

        `origin` is the starting point of a comparison without any rounds yet.
        """
        self.contestants = tuple(contestants)
        self.origin = origin
        self.id = chat_id or new_id()
        """The conversation's id in the store."""
        histories = tuple(branches) or tuple(Conversation() for _ in self.contestants)
        self.chats = tuple(Chat(self.id, history) for history in histories)
        """One for each contestant, all with the comparison's id."""
        self._lock = threading.Lock()
        self._rounds = tuple(rounds)
        self._stopped = frozenset[int]()
        self._finished = threading.Event()
        self._finished.set()
        self._error: UserError | None = None

    @property
    def rounds(self) -> tuple[AskedRound, ...]:
        """All questions so far, oldest first."""
        return self._rounds

    @property
    def is_running(self) -> bool:
        """Whether the last round is in progress."""
        return not self._finished.is_set()

    def is_stopped(self, position: int | None = None) -> bool:
        """Whether a contestant's answer of the round in progress was asked to stop; by default, whether all were."""
        with self._lock:
            stopped = self._stopped
        return position in stopped if position is not None else len(stopped) == len(self.contestants)

    @property
    def error(self) -> UserError | None:
        """Why not every side was asked in the last round."""
        return self._error

    def try_start(self, question: str, is_blind: bool) -> AskedRound | None:
        """Begin a round, with its sides in random order if it is blind; None while another one runs."""
        everyone = [str(position) for position in range(len(self.contestants))]
        places = tuple(map(int, draw_places(everyone) if is_blind else everyone))
        with self._lock:
            if self.is_running:
                return None
            started = AskedRound(new_id(), question, is_blind, places)
            self._rounds = (*self._rounds, started)
            self._stopped, self._error = frozenset(), None
            self._finished.clear()
            return started

    def finish(self, error: UserError | None = None) -> None:
        """Record that the round in progress has ended. Drop the round if no side was asked."""
        with self._lock:
            self._error = error
            if self._rounds and not any(self.find_turns(self._rounds[-1])):
                self._rounds = self._rounds[:-1]
            self._finished.set()

    def stop(self, place: int | None = None) -> None:
        """Stop the answer at a place of the round in progress, by default all, and ask no further side."""
        with self._lock:
            if not self.is_running:
                return
            places = self._rounds[-1].places
            stopped = places if place is None else places[place : place + 1]
            self._stopped |= frozenset(stopped)
        for position in stopped:
            self.chats[position].stop()

    def wait(self, seconds: float) -> bool:
        """Wait up to `seconds` until no round runs; return whether none does."""
        return self._finished.wait(seconds)

    @property
    def history(self) -> tuple[Turn, ...]:
        """The turns before the first round, the same for all sides."""
        if self.origin:
            return self.origin.history.turns
        turns = self.chats[0].conversation.turns
        return tuple(turn for turn in turns if turn.request is None or turn.request.round is None)

    def find_turns(self, asked: AskedRound) -> list[Turn | None]:
        """Return the turns of a round from left to right; None where nothing has been asked yet."""
        return [_find_turn(self.chats[position].conversation, asked.id) for position in asked.places]

    def has_hidden_round(self, voted: Container[str]) -> bool:
        """Whether a blind round awaits its vote; `voted` are the ids of the turns that have one."""
        blind = [asked for asked in self._rounds if asked.is_blind]
        return any(turn is None or turn.id not in voted for asked in blind for turn in self.find_turns(asked))


def restore_comparison(chat_id: str, conversation: Conversation) -> Comparison:
    """Restore a comparison from its conversation in the store.

    Raises:
        UserError: no_such_chat if it has no round.
    """
    rounds = _group_rounds(conversation)
    if not rounds:
        raise UserError("no_such_chat")
    leaves = _find_leaves(conversation)
    # Their order must not reveal which side stood where.
    leaves.sort(key=lambda turn: (turn.request.model_id if turn.request else "", turn.id))
    branches = [Conversation(conversation.tree, turn.id).turns for turn in leaves]
    asked = [
        AskedRound(round_id, first.question, is_blind, _find_places(branches, round_id))
        for round_id, (first, is_blind) in rounds.items()
    ]
    histories = [Conversation(branch, branch[-1].id) for branch in branches]
    return Comparison(map(_read_contestant, leaves), chat_id, histories, asked)


def _group_rounds(conversation: Conversation) -> Mapping[str, tuple[Turn, bool]]:
    """Return one turn of each round and whether the round is blind, by round id, oldest first."""
    rounds = dict[str, tuple[Turn, bool]]()
    for turn in conversation.tree:
        if turn.request and (place := turn.request.round):
            rounds.setdefault(place.round_id, (turn, place.is_blind))
    return rounds


def _find_leaves(conversation: Conversation) -> list[Turn]:
    parents = {turn.parent for turn in conversation.tree}
    return [turn for turn in conversation.tree if turn.id not in parents and turn.request and turn.request.round]


def _find_places(branches: list[tuple[Turn, ...]], round_id: str) -> tuple[int, ...]:
    """Return the positions of the branches that take part in a round, from left to right."""
    found = dict[int, int]()
    for position, branch in enumerate(branches):
        for turn in branch:
            if turn.request and turn.request.round and turn.request.round.round_id == round_id:
                found[turn.request.round.place] = position
    return tuple(found[place] for place in sorted(found))


def _find_turn(conversation: Conversation, round_id: str) -> Turn | None:
    for turn in conversation.turns:
        if turn.request and turn.request.round and turn.request.round.round_id == round_id:
            return turn
    return None


def _read_contestant(turn: Turn) -> Contestant:
    request = turn.request or TurnRequest(0.0, "")
    return Contestant(request.model_id, find_preset(request), request.system)


def find_preset(request: TurnRequest) -> str:
    """Return the name of the preset that a request's parameters come from, as far as its model supports them; empty if none."""
    params = request.params.as_dict()
    for preset in PARAM_PRESETS:
        common = preset.values.keys() & params.keys()
        if common and all(params[name] == preset.values[name] for name in common):
            return preset.name
    return ""
