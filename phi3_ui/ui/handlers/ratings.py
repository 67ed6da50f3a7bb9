"""The leaderboard: whose votes it counts, what a contestant is, and the rounds behind it."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime

import gradio as gr

from phi3_ui.arena.board import VoteFilter, build_board
from phi3_ui.errors import UserError
from phi3_ui.export.votes import VotedRound, write_votes
from phi3_ui.i18n.translate import tr
from phi3_ui.store.conversations.summaries import TurnMetrics
from phi3_ui.store.conversations.traces import PREVIEW_CHARS
from phi3_ui.store.conversations.votes import StoredVote, VoteReader
from phi3_ui.store.registry.cards import RegisteredVersion
from phi3_ui.ui.comparison_state import restore_comparison
from phi3_ui.ui.handlers.conversations import Action, ConversationController
from phi3_ui.ui.handlers.event_fields import read_number
from phi3_ui.ui.handlers.export import pack_download
from phi3_ui.ui.page.components import Page, Updates
from phi3_ui.ui.render.compare import find_voted
from phi3_ui.ui.render.labels import split_answer_label, version_label
from phi3_ui.ui.render.ratings import Contestant, Filter, RatedRound, RatingsView, render_ratings
from phi3_ui.ui.services import Services
from phi3_ui.ui.session_values import RatingsChoice
from phi3_ui.ui.sessions import Session

PERIODS = {"all": None, "day": 86_400.0, "week": 7 * 86_400.0, "month": 30 * 86_400.0}
"""In seconds."""
_GROUPINGS = ("version", "registered")
_LISTED_ROUNDS = 50
_MAX_CHOICE = 1000  # characters; a page keeps what the browser sends

_Versions = Mapping[str, tuple[RegisteredVersion, ...]]
"""By model id."""


class RatingsController:
    """Draws the view. The action "ratings" opens it, "close_ratings" closes it, and its filters are actions, too.

    Users see the sums of all votes, but voters and the chats behind the votes only for their own; the administrator, who
    can read the store anyway, can choose a voter.
    """

    def __init__(self, page: Page, services: Services, chats: ConversationController) -> None:
        self._page = page
        self._catalogue = services.catalogue
        self._pool = services.pool
        self._history = services.conversations.history
        self._votes = VoteReader(services.locator.locate)
        self._mlflow = services.mlflow
        self._sets, self._shows_sets = services.prompt_sets, services.settings.manage
        self._is_single_user = services.settings.is_single_user
        chats.actions |= {
            "ratings": lambda session, _: self._open(session),
            "close_ratings": lambda session, _: self._close(session),
            "ratings_person": lambda session, action: self._change(session, person=action.value, pair=None),
            "ratings_period": lambda session, action: self._change(session, period=action.value, pair=None),
            "ratings_grouping": lambda session, action: self._change(session, grouping=action.value, pair=None),
            "ratings_set": lambda session, action: self._change(session, prompt_set=action.value, pair=None),
            "ratings_pair": self._choose_pair,
            "ratings_save": lambda session, _: self._save(session),
        }

    def _open(self, session: Session) -> Updates:
        """Show the view.

        Raises:
            UserError: The store does not respond.
        """
        session.panels.ratings = choice = session.panels.ratings or RatingsChoice()
        return self._draw(session, choice)

    def _close(self, session: Session) -> Updates:
        session.panels.ratings = None
        return {self._page.ratings.view: ""}

    def _change(self, session: Session, **changes: object) -> Updates:
        """Change what the view shows, unless it was closed while the request was in flight.

        Raises:
            UserError: The store does not respond.
        """
        kept = {name: value[:_MAX_CHOICE] if isinstance(value, str) else value for name, value in changes.items()}
        choice = session.panels.change_ratings(**kept)
        return self._draw(session, choice) if choice else {self._page.ratings.view: gr.skip()}

    def _choose_pair(self, session: Session, action: Action) -> Updates:
        """List the rounds of two contestants, given by their places in the leaderboard, as in `0-1`; all rounds if empty."""
        choice = session.panels.ratings or RatingsChoice()
        keys = [one.contestant for one in self._build(session, choice).board.leaderboard.ratings]
        found = [
            keys[place]
            for part in action.value.split("-")
            if (place := read_number(part)) is not None and place < len(keys)
        ]
        pair = (found[0], found[1]) if len(found) == 2 and found[0] != found[1] else None
        return self._change(session, pair=pair)

    def _draw(self, session: Session, choice: RatingsChoice) -> Updates:
        rendered = render_ratings(session.language, self._build(session, choice))
        # It may have been closed or changed while it was drawn, by an event whose update has already reached the page.
        return {self._page.ratings.view: rendered if session.panels.ratings is choice else gr.skip()}

    def _build(self, session: Session, choice: RatingsChoice) -> RatingsView:
        """Build the view for a choice, ignoring values that cannot be chosen."""
        language, versions = session.language, self._catalogue.list_versions()
        votes, people = self._list_votes(session, choice)
        keys = _name_contestants(votes, versions, choice.grouping == "registered")
        period = PERIODS.get(choice.period)
        sets = [(one.id, one.name) for one in self._sets.list_sets()] if self._shows_sets else []
        vote_filter = VoteFilter(
            since=None if period is None else time.time() - period,
            questions=self._list_questions(choice.prompt_set) if choice.prompt_set in dict(sets) else None,
        )
        kept = list(filter(vote_filter.keeps, votes))
        rounds = [
            RatedRound(
                vote,
                tuple(keys[model] for model in vote.model_ids),
                tuple(self._mlflow.link_turn(language, answer.turn_id) for answer in vote.answers),
                vote.voter == session.user_id,
            )
            for vote in kept
            if vote.voter == session.user_id or self._is_single_user
        ]
        pair = choice.pair if choice.pair and set(choice.pair) <= set(keys.values()) else None
        listed = [one for one in rounds if pair is None or set(pair) <= set(one.contestants)]
        memory = self._pool.measure_memory()
        return RatingsView(
            filters=list(self._list_filters(language, choice, people, sets)),
            board=build_board(kept, keys.__getitem__),
            contestants=_describe_contestants(votes, versions, keys),
            memory={keys[model]: size for model, size in memory.items() if model in keys},
            rounds=listed[:_LISTED_ROUNDS],
            pair=pair,
            evaluations_off="" if self._shows_sets else session.explain(UserError("evaluations_disabled")),
            notes=[
                *([tr(language, "ratings.rounds.own")] if len(rounds) < len(kept) else ()),
                *(
                    [tr(language, "ratings.rounds.newest", count=_LISTED_ROUNDS)]
                    if len(listed) > _LISTED_ROUNDS
                    else ()
                ),
            ],
        )

    def _list_votes(self, session: Session, choice: RatingsChoice) -> tuple[list[StoredVote], list[str]]:
        """Return the votes of the chosen voter or of all, newest first, and the other voters that can be chosen.

        The user's own votes come from their history, which has them before they are stored, without reading the whole store.
        """
        own = self._history.list_votes(session.user_id)
        if choice.person == "me":
            return own, []
        others = [vote for vote in self._votes.list_votes() if vote.voter != session.user_id]
        people = sorted({vote.voter for vote in others}) if self._is_single_user else []
        if choice.person == "all":
            return sorted([*own, *others], key=lambda vote: vote.voted_at, reverse=True), people
        if choice.person in people:
            return [vote for vote in others if vote.voter == choice.person], people
        return own, people

    def _list_questions(self, set_id: str) -> set[str]:
        return {record.question[:PREVIEW_CHARS] for record in self._sets.load(set_id).records}

    @staticmethod
    def _list_filters(
        language: str, choice: RatingsChoice, people: Sequence[str], sets: Sequence[tuple[str, str]]
    ) -> Iterator[Filter]:
        everyone = [(name, tr(language, f"ratings.person.{name}")) for name in ("me", "all")]
        named = [(person, person) for person in people]
        yield Filter("ratings_person", tr(language, "ratings.person"), [*everyone, *named], choice.person)
        periods = [(name, tr(language, f"ratings.period.{name}")) for name in PERIODS]
        yield Filter("ratings_period", tr(language, "ratings.period"), periods, choice.period)
        groupings = [(name, tr(language, f"ratings.grouping.{name}")) for name in _GROUPINGS]
        yield Filter("ratings_grouping", tr(language, "ratings.grouping"), groupings, choice.grouping)

        if sets:
            all_ = ("", tr(language, "ratings.set.all"))
            yield Filter("ratings_set", tr(language, "ratings.set"), [all_, *sets], choice.prompt_set)

    def _save(self, session: Session) -> Updates:
        """Download all the user's votes, with prompts, answers, models and parameters.

        Raises:
            UserError: nothing_voted, or the store does not respond.
        """
        chats = dict.fromkeys(vote.answers[0].conversation_id for vote in self._history.list_votes(session.user_id))
        voted = [one for chat_id in chats for one in self._load_voted(session, chat_id)]
        if not voted:
            raise UserError("nothing_voted")
        name = f"votes-{datetime.now():%Y-%m-%d}.jsonl"
        return {self._page.export.download: pack_download(name, "application/jsonl", write_votes(voted).encode())}

    def _load_voted(self, session: Session, chat_id: str) -> list[VotedRound]:
        comparison = restore_comparison(chat_id, self._history.load(session.user_id, chat_id))
        return find_voted(comparison, self._history.list_verdicts(session.user_id, chat_id))


def _name_contestants(votes: Iterable[StoredVote], versions: _Versions, by_registered: bool) -> dict[str, str]:
    """Return the contestant that each model counts as, by model id: itself, or the registered model that it is a version of.

    Unregistered models are grouped under the name that they were logged with.
    """
    if not by_registered:
        return {model: model for vote in votes for model in vote.model_ids}
    return {
        answer.model_id: _registered_name(answer, versions.get(answer.model_id, ()))
        for vote in votes
        for answer in vote.answers
    }


def _registered_name(answer: TurnMetrics, versions: Sequence[RegisteredVersion]) -> str:
    return versions[-1].name if versions else split_answer_label(answer.model)[0]


def _describe_contestants(
    votes: Iterable[StoredVote], versions: _Versions, keys: Mapping[str, str]
) -> dict[str, Contestant]:
    """Return names of contestants by key, with the start of the model's id where several would have the same name."""
    found = dict[str, Contestant]()
    for vote in votes:
        for answer in vote.answers:
            name, engine = split_answer_label(answer.model)
            key, known = keys[answer.model_id], versions.get(answer.model_id, ())
            is_group = key != answer.model_id
            detail = "" if is_group else ", ".join(map(version_label, known)) or engine
            found.setdefault(key, Contestant(key if is_group else name, detail))
    names = [(one.name, one.detail) for one in found.values()]
    return {
        key: one if names.count((one.name, one.detail)) == 1 else Contestant(f"{one.name} ({key[:10]})", one.detail)
        for key, one in found.items()
    }
