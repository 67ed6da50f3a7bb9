"""Compare: ask several models the same question, vote on the answers, and see which model gave which."""

import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import gradio as gr
from jinja2.utils import htmlsafe_json_dumps

from phi3_ui.arena.rounds import Round, find_exclusion
from phi3_ui.chat.comparison import Exclusion, Preference
from phi3_ui.chat.conversation import TurnRequest
from phi3_ui.chat.presets import PARAM_PRESETS
from phi3_ui.chat.surrogates import replace_surrogates
from phi3_ui.errors import UserError
from phi3_ui.export.votes import write_votes
from phi3_ui.i18n.translate import tr
from phi3_ui.store.conversations.operations import VoteRecord
from phi3_ui.ui.comparison_state import (
    MAX_SIDES,
    MIN_SIDES,
    AskedRound,
    Comparison,
    Contestant,
    Origin,
    find_origin,
    find_preset,
)
from phi3_ui.ui.handlers.answers import DRAW_EVERY, AnswerStarter
from phi3_ui.ui.handlers.conversations import Action, ConversationController
from phi3_ui.ui.handlers.export import pack_download
from phi3_ui.ui.handlers.rounds import PRESETS, RoundRunner
from phi3_ui.ui.notices import show_warning
from phi3_ui.ui.page.components import Page, Updates
from phi3_ui.ui.render.compare import ComparisonView, describe_history, describe_round, find_voted, list_choices
from phi3_ui.ui.render.labels import picker_label, split_answer_label
from phi3_ui.ui.services import Services
from phi3_ui.ui.sessions import Session

_MAX_REASON = 2000  # characters


@dataclass(frozen=True)
class _Question:
    """A question asked of several sides, as sent by the page."""

    text: str
    is_blind: bool
    contestants: tuple[Contestant, ...]


class CompareController:
    """Runs one comparison per page at a time."""

    def __init__(
        self,
        page: Page,
        services: Services,
        starter: AnswerStarter,
        conversations: ConversationController,
        session: Callable[[gr.Request], Session],
    ) -> None:
        self._page = page
        self._max_characters = services.settings.max_message_characters
        self._catalogue = services.catalogue
        self._models = services.models
        self._store = services.conversations
        self._history = services.conversations.history
        self._rounds = RoundRunner(services, starter)
        self._conversations = conversations
        self._session = session
        conversations.show_comparison = self._open
        conversations.actions["compare"] = self._compare_answer

    # Actions of the view

    def act(self, request: gr.Request, event: gr.EventData) -> Updates:
        """Open or close the view, stop answers, vote, or save the votes."""
        session = self._session(request)
        data = event._data if isinstance(event._data, dict) else {}
        try:
            match data.get("name"):
                case "open":
                    return self._open(session, session.comparison or Comparison(self._choose_sides(session)))
                case "new":
                    return self._open(session, Comparison(self._choose_sides(session)))
                case "close":
                    return self.close(session)
                case "stop":
                    self._stop(session, data.get("place"))
                case "vote":
                    reason = replace_surrogates(str(data.get("reason") or ""))[:_MAX_REASON].strip()
                    return self._vote(session, data.get("round"), str(data.get("choice")), reason)
                case "save":
                    return self._save(session)
        except UserError as error:
            show_warning(session.explain(error))
        return {self._page.compare.view: gr.skip()}

    def _open(self, session: Session, comparison: Comparison) -> Updates:
        session.set_comparison(comparison)
        panels, page = session.panels, self._page
        panels.compare_open, panels.ratings, panels.evaluations = True, None, None
        return {
            **self._draw(session),
            page.ratings.view: "",
            page.evaluations.view: "",
            **self._conversations.list_chats(session),
        }

    def close(self, session: Session) -> Updates:
        """Stop the round in progress, and show the chat instead of the comparison."""
        if session.comparison:
            session.comparison.stop()
        session.panels.compare_open = False
        return {self._page.compare.view: "", **self._conversations.list_chats(session)}

    @staticmethod
    def _stop(session: Session, place: object) -> None:
        if session.comparison and (place is None or isinstance(place, int)):
            session.comparison.stop(place)

    def _choose_sides(self, session: Session, request: TurnRequest | None = None) -> tuple[Contestant, Contestant]:
        """Return the page's model and the next other one; without another, the same one with a freer preset.

        Given the request of an answer, its model comes first, and both sides have its preset and system prompt.

        Raises:
            UserError: no_model, or the store does not respond.
        """
        entries = self._models.list_usable()
        ids = [entry.model_id for entry in entries]
        own = [entry.model_id for entry in entries if not entry.is_remote]  # a remote one only if explicitly chosen
        wanted = [request.model_id if request else None, session.model.id, *own]
        if not (chosen := [*dict.fromkeys(one for one in wanted if one in ids)]):
            raise UserError("no_model")
        first, *others = chosen
        preset, system = (find_preset(request), request.system) if request else ("", "")
        if others:
            return Contestant(first, preset, system), Contestant(others[0], preset, system)
        freest = PARAM_PRESETS[0 if preset == PARAM_PRESETS[-1].name else -1].name
        return Contestant(first, preset, system), Contestant(first, freest, system)

    def _compare_answer(self, session: Session, action: Action) -> Updates:
        """Open a comparison with an answer's question and the turns before it; the answer's model is one of the sides.

        The answer itself is not part of it: all sides are asked again, so that the vote can be blind.

        Raises:
            UserError: no_such_turn, no_model, or the store does not respond.
        """
        self._conversations.require_turn(session.current, action.value)
        conversation = session.current.conversation
        sides = self._choose_sides(session, conversation.get_turn(action.value).request)
        return self._open(session, Comparison(sides, origin=find_origin(conversation, action.value)))

    # A round

    def ask(self, request: gr.Request, event: gr.EventData, **values: Any) -> Generator[Updates, None, None]:
        """Ask a question of all sides, and draw the answers to their end.

        `values` are the page's system prompt and sampling parameters by name.
        """
        session = self._session(request)
        try:
            question = self._parse_question(event._data)
            sides = [self._rounds.prepare(session, one, values) for one in question.contestants]
            comparison = self._continue(session, question)
            if (asked := comparison.try_start(question.text, question.is_blind)) is None:
                raise UserError("chat_busy")
        except UserError as error:
            show_warning(session.explain(error))
            yield {self._page.compare.view: gr.skip()}
            return
        self._rounds.start(session, comparison, asked, sides)
        yield from self._draw_to_end(session, comparison, asked)

    def resume(self, request: gr.Request) -> Iterator[Updates]:
        """Show the view that was open before the page was reloaded, and draw its round to the end."""
        session = self._session(request)
        if not session.panels.compare_open or (comparison := session.comparison) is None:
            yield {self._page.compare.view: gr.skip()}
            return
        if comparison.is_running and (rounds := comparison.rounds):
            yield from self._draw_to_end(session, comparison, rounds[-1])
        else:
            yield {**self._draw(session), **self._conversations.list_chats(session)}

    def _parse_question(self, data: object) -> _Question:
        fields = data if isinstance(data, dict) else {}
        text = replace_surrogates(str(fields.get("question") or ""))
        if not text.strip():
            raise UserError("empty_question")
        sides = fields.get("sides")
        if not isinstance(sides, list) or not MIN_SIDES <= len(sides) <= MAX_SIDES:
            raise UserError("sides_invalid")
        contestants = tuple(map(parse_contestant, sides))
        if len(set(contestants)) < len(contestants):
            raise UserError("same_sides")
        if len(text) > self._max_characters:
            raise UserError("message_too_long", count=self._max_characters)
        return _Question(text, fields.get("blind") is not False, contestants)

    def _continue(self, session: Session, question: _Question) -> Comparison:
        """Return the comparison that the page shows; a new one if the sides differ, or if it was deleted on another page."""
        comparison = session.comparison
        if comparison and comparison.is_running:
            raise UserError("chat_busy")
        contestants = question.contestants
        if comparison is None or self._history.is_deleted(session.user_id, comparison.id):
            following = Comparison(contestants)
        elif comparison.origin and comparison.history:
            following = self._begin_after(session, comparison.origin, contestants)
        elif comparison.contestants == contestants and not comparison.origin:
            return comparison
        elif comparison.rounds or comparison.origin:
            following = Comparison(contestants)
        else:  # no side was asked in its first round
            following = Comparison(contestants, comparison.id, [comparison.chats[0].conversation] * len(contestants))
        session.set_comparison(following)
        return following

    def _begin_after(self, session: Session, origin: Origin, contestants: tuple[Contestant, ...]) -> Comparison:
        """Return a comparison whose sides begin with a copy of the history, as a separate chat: the original may be deleted."""
        copied = self._store.import_conversation(session.user_id, origin.history)
        if copied is None:
            raise UserError("chat_busy")
        return Comparison(contestants, copied.id, [copied.conversation] * len(contestants))

    # Drawing

    def _draw_to_end(self, session: Session, comparison: Comparison, asked: AskedRound) -> Iterator[Updates]:
        """Draw the comparison until the round has ended; only once if another event of the page already does so.

        Closing the iterator stops the round, unless the connection is lost.
        """
        updates = {**self._draw(session), **self._conversations.list_chats(session)}
        if not session.connection.try_follow(asked):
            yield updates
            return
        is_lost = session.connection.lost.is_set
        try:
            while True:
                yield updates
                if comparison.wait(DRAW_EVERY):
                    break
                updates = self._draw(session, is_partial=True)
        finally:
            session.connection.unfollow(asked)
            if not is_lost():
                comparison.stop()
        if comparison.error:
            show_warning(session.explain(comparison.error))
        # Gradio sends the last update again at the end, so it must match what is shown.
        chats = self._conversations
        yield {**self._draw(session), **chats.list_chats(session), **chats.show_usage(session)}

    def _draw(self, session: Session, is_partial: bool = False) -> Updates:
        """Draw the comparison, or only its last round; nothing if the view is closed."""
        comparison = session.comparison
        if comparison is None or not session.panels.compare_open:
            return {self._page.compare.view: ""}
        view = self._describe(session, comparison, is_partial)
        return {self._page.compare.view: str(htmlsafe_json_dumps(view, ensure_ascii=False))}

    def _describe(self, session: Session, comparison: Comparison, is_partial: bool) -> ComparisonView:
        language = session.language
        now = time.time()
        verdicts = self._history.list_verdicts(session.user_id, comparison.id)
        rounds = comparison.rounds[-1:] if is_partial else comparison.rounds
        view: ComparisonView = {
            "at": now,
            "id": comparison.id,
            "running": comparison.is_running,
            "note": "" if self._rounds.is_parallel(comparison) else tr(language, "compare.in_turn"),
            "sides": [
                {"model": one.model_id, "preset": one.preset, "system": one.system} for one in comparison.contestants
            ],
            "rounds": [describe_round(language, comparison, asked, verdicts) for asked in rounds],
            "partial": is_partial,
        }
        if not is_partial:
            view["history"] = describe_history(comparison)
            view["draft"] = comparison.origin.question if comparison.origin else ""
            view["models"] = [(entry.model_id, picker_label(language, entry)) for entry in self._models.list_usable()]
        return view

    # Votes

    def _vote(self, session: Session, round_id: object, choice: str, reason: str) -> Updates:
        """Record a vote.

        Raises:
            UserError: no_such_turn, already_voted, or the store does not respond.
        """
        comparison = session.comparison
        asked = next((one for one in comparison.rounds if one.id == round_id), None) if comparison else None
        if comparison is None or asked is None or (comparison.is_running and asked is comparison.rounds[-1]):
            raise UserError("no_such_turn")
        turns = comparison.find_turns(asked)
        if choice not in list_choices(turns):
            raise UserError("no_such_turn")
        preference: Preference = int(choice) if choice.isdigit() else choice  # type: ignore[assignment]  # checked above
        vote = VoteRecord(
            session.user_id,
            comparison.id,
            tuple(turn.id for turn in turns if turn),
            preference,
            time.time(),
            self._find_exclusion(comparison, asked),
            reason,
        )
        if not self._history.vote(vote):
            raise UserError("already_voted")
        return {**self._draw(session), **self._conversations.show_usage(session)}

    def _find_exclusion(self, comparison: Comparison, asked: AskedRound) -> Exclusion | None:
        turns = comparison.find_turns(asked)
        versions = self._catalogue.list_versions()
        answers = {turn.id: turn.answer for turn in turns if turn and turn.answer}
        names = {
            turn.id: (
                split_answer_label(turn.answer.model)[0],
                *(one.name for one in versions.get(turn.request.model_id, ())),
            )
            for turn in turns
            if turn and turn.answer and turn.request
        }
        places = tuple(turn.id if turn else "" for turn in turns)
        return find_exclusion(Round(asked.question, places, answers, names))

    def _save(self, session: Session) -> Updates:
        """Download the votes on the rounds of the comparison."""
        comparison = session.comparison
        verdicts = self._history.list_verdicts(session.user_id, comparison.id) if comparison else {}
        voted = find_voted(comparison, verdicts) if comparison else []
        if not voted:
            raise UserError("nothing_voted")
        name = f"votes-{datetime.now():%Y-%m-%d}.jsonl"
        return {
            self._page.export.download: pack_download(name, "application/jsonl", write_votes(voted).encode()),
        }


def parse_contestant(side: object) -> Contestant:
    """Parse a side as sent by the page. Raises UserError("sides_invalid")."""
    fields = side if isinstance(side, dict) else {}
    model, preset, system = (fields.get(name) or "" for name in ("model", "preset", "system"))
    is_text = all(isinstance(one, str) for one in (model, preset, system))
    if not is_text or not model or (preset and preset not in PRESETS):
        raise UserError("sides_invalid")
    return Contestant(model, preset, replace_surrogates(system))
