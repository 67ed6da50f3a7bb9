"""Evaluations on the page: create and edit prompt sets; start, cancel and resume evaluations; show their answers."""

import logging
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import gradio as gr

from phi3_ui.chat.surrogates import replace_surrogates
from phi3_ui.chat.types import Message
from phi3_ui.errors import UserError
from phi3_ui.evaluation.chat_records import build_records, collect_rated_records
from phi3_ui.evaluation.plan import PRESETS, list_candidates, plan_evaluation
from phi3_ui.evaluation.prompt_set import EXPECTED_RESPONSE, PromptRecord
from phi3_ui.evaluation.questions import read_records
from phi3_ui.evaluation.running import RunningEvaluation
from phi3_ui.evaluation.runs import EvaluationRun
from phi3_ui.evaluation.services import plan_judge
from phi3_ui.i18n.translate import tr
from phi3_ui.store import links
from phi3_ui.ui.handlers.conversations import ConversationController
from phi3_ui.ui.handlers.event_fields import read_fields, read_number
from phi3_ui.ui.notices import show_warning
from phi3_ui.ui.page.components import Page, Updates
from phi3_ui.ui.render.evaluation_results import ResultsView, render_results
from phi3_ui.ui.render.evaluations import HomeView, NewView, SetView, render_home, render_new, render_set
from phi3_ui.ui.render.labels import place_label
from phi3_ui.ui.render.remote_notice import render_remote_sides
from phi3_ui.ui.services import Services
from phi3_ui.ui.session_values import EvaluationsChoice
from phi3_ui.ui.sessions import Session

logger = logging.getLogger(__name__)

RATED = "rated"
"""Used instead of a chat id: all rated answers of the user."""
_MAX_REPEATS = 20
_LISTED_CHATS = 100

Fields = Mapping[str, list[str]]
"""The values of a form by name; a file has its name and its text."""


class EvaluationsController:
    """Draws the view. The action "evaluations" opens it, "close_evaluations" closes it.

    Prompt sets and evaluations are shared by all users of the store, and are expensive: they require permission to change
    models (PHI3_UI_MANAGE).
    """

    def __init__(
        self,
        page: Page,
        services: Services,
        chats: ConversationController,
        session: Callable[[gr.Request], Session],
    ) -> None:
        self._page = page
        self._settings = services.settings
        self._models = services.models
        self._history = services.conversations.history
        self._sets = services.prompt_sets
        self._evaluations = services.evaluations
        self._locator = services.locator
        self._mlflow = services.mlflow
        self._chats = chats
        self._session = session
        chats.actions |= {
            "evaluations": lambda session, _: self._show(session, session.panels.evaluations or EvaluationsChoice()),
            "close_evaluations": lambda session, _: self._close(session),
        }
        self._handlers: dict[str, Callable[[Session, EvaluationsChoice, Fields], EvaluationsChoice]] = {
            "home": lambda *_: EvaluationsChoice(),
            "show_set": lambda _, __, fields: EvaluationsChoice("set", _first(fields, "value")),
            "show_version": self._show_version,
            "show_rows": lambda _, choice, fields: replace(choice, rows=_first(fields, "value"), start=0),
            "show_from": self._show_from,
            "create_set": self._create_set,
            "add_records": self._add_records,
            "save_record": self._save_record,
            "remove_record": self._remove_record,
            "plan": lambda _, __, fields: EvaluationsChoice("new", _first(fields, "value")),
            "start": self._start,
            "cancel": self._cancel,
            "resume": self._resume,
            "show_results": lambda _, __, fields: EvaluationsChoice("results", evaluation_id=_first(fields, "value")),
        }

    def act(self, request: gr.Request, event: gr.EventData) -> Updates:
        """Perform the action of a form, button or select of the view; after an error, the view stays as it is."""
        session, data = self._session(request), read_fields(event)
        try:
            handler = self._handlers.get(str(data.get("name")))
            if handler and (choice := session.panels.evaluations):
                self._require_allowed()
                return self._show(session, handler(session, choice, _parse_fields(data)))
        except UserError as error:
            show_warning(session.explain(error))
        return {self._page.evaluations.view: gr.skip()}

    def refresh(self, request: gr.Request) -> Updates:
        """Redraw the view while it shows something in progress."""
        session = self._session(request)
        choice = session.panels.evaluations
        if choice and choice.is_live:
            try:
                updates = self._show(session, choice, is_refresh=True)
            except UserError as error:
                logger.info("The evaluations are not refreshed: %s", error)
            else:
                return updates
        return {self._page.evaluations.view: gr.skip()}

    def _close(self, session: Session) -> Updates:
        session.panels.evaluations = None
        return {self._page.evaluations.view: ""}

    def _require_allowed(self) -> None:
        if not self._settings.manage:
            raise UserError("evaluations_disabled")

    # Drawing

    def _show(self, session: Session, choice: EvaluationsChoice, is_refresh: bool = False) -> Updates:
        """Show the view, unless it was closed while it was drawn, or switched to another page during a refresh.

        Raises:
            UserError: evaluations_disabled, or the store does not respond.
        """
        self._require_allowed()
        before = session.panels.evaluations
        draw = {"set": self._draw_set, "new": self._draw_new, "results": self._draw_results}
        choice, rendered = draw.get(choice.page, self._draw_home)(session, choice)
        now = session.panels.evaluations
        if (before and now is None) or (is_refresh and now != before):
            return {self._page.evaluations.view: gr.skip()}
        session.panels.evaluations = choice
        return {self._page.evaluations.view: rendered}

    def _draw_home(self, session: Session, choice: EvaluationsChoice) -> tuple[EvaluationsChoice, str]:
        found = [(one, self._evaluations.get_running(one.id)) for one in self._evaluations.list_evaluations()]
        view = HomeView(self._sets.list_sets(), found, self._list_chats(session))
        is_live = any(running or one.runs_elsewhere for one, running in found)
        return replace(choice, is_live=is_live), render_home(session.language, view)

    def _draw_set(self, session: Session, choice: EvaluationsChoice) -> tuple[EvaluationsChoice, str]:
        shown = self._sets.load(choice.set_id, choice.version)
        versions = self._sets.list_versions(shown.id)
        view = SetView(
            shown,
            versions,
            choice.start,
            self._list_chats(session),
            self._find_chats(session),
            self._link(lambda base, experiment: links.dataset_url(base, experiment, shown.id)),
        )
        return choice, render_set(session.language, view)

    def _draw_new(self, session: Session, choice: EvaluationsChoice) -> tuple[EvaluationsChoice, str]:
        entries = self._models.list_usable()
        own = [entry.model_id for entry in entries if not entry.is_remote]  # a remote one only if explicitly chosen
        selected = {entry.model_id for entry in entries if entry.model_id == session.model.id} or set(own[:1])
        models = [(entry.model_id, place_label(session.language, entry)) for entry in entries]
        sets = [(one.id, one.name) for one in self._sets.list_sets()]
        return choice, render_new(
            session.language,
            NewView(
                sets,
                choice.set_id,
                models,
                selected,
                bool(self._settings.judge),
                render_remote_sides(session.language, entries),
            ),
        )

    def _draw_results(self, session: Session, choice: EvaluationsChoice) -> tuple[EvaluationsChoice, str]:
        evaluation = next((one for one in self._evaluations.list_evaluations() if one.id == choice.evaluation_id), None)
        if evaluation is None:
            raise UserError("no_such_evaluation", id=choice.evaluation_id[:32])
        running = self._evaluations.get_running(evaluation.id)
        answers = [] if running else [self._evaluations.load_answers(run.run_id) for run in evaluation.runs]
        view = ResultsView(
            evaluation,
            running,
            answers,
            choice.rows,
            choice.start,
            self._find_sources(session, evaluation.runs[0]),
            lambda run_id: self._link(lambda base, experiment: links.evaluation_run_url(base, experiment, run_id)),
            lambda trace_id: self._link(lambda base, experiment: links.trace_url(base, experiment, trace_id)),
        )
        is_live = running is not None or evaluation.runs_elsewhere
        return replace(choice, is_live=is_live), render_results(session.language, view)

    def _list_chats(self, session: Session) -> list[tuple[str, str]]:
        """Return the chats whose answers can be added to a set: id and title."""
        listed = self._history.list_conversations(session.user_id)[:_LISTED_CHATS]
        return [(RATED, tr(session.language, "eval.source.rated")), *((one.id, one.title) for one in listed)]

    def _find_chats(self, session: Session) -> dict[str, str]:
        """Return the user's chats by the trace ids of their turns."""
        metrics = self._history.list_turn_metrics(session.user_id)
        return {f"tr-{one.turn_id}": one.conversation_id for one in metrics}

    def _find_sources(self, session: Session, run: EvaluationRun) -> dict[str, str]:
        """Return the user's chats that the questions of a run were taken from, by the keys of the requests."""
        try:
            records = self._sets.load(run.set_name, run.set_version).records
        except UserError as error:
            if error.code not in ("no_such_prompt_set", "no_such_prompt_set_version"):
                raise
            return {}  # a file, or a deleted set
        chats = self._find_chats(session)
        return {one.key: chats[one.source_trace_id] for one in records if one.source_trace_id in chats}

    def _link(self, build: Callable[[str, str], str]) -> str:
        """Return a URL in MLflow's UI; empty while the UI is not available."""
        base, experiment_id = self._mlflow.base, self._locator.linked_experiment_id
        return build(base, experiment_id) if base and experiment_id else ""

    # Prompt sets

    def _create_set(self, session: Session, _: EvaluationsChoice, fields: Fields) -> EvaluationsChoice:
        created = self._sets.create(_first(fields, "title"), self._read_records(session, fields))
        return EvaluationsChoice("set", created.id)

    def _add_records(self, session: Session, choice: EvaluationsChoice, fields: Fields) -> EvaluationsChoice:
        self._sets.add_records(choice.set_id, self._read_records(session, fields))
        return EvaluationsChoice("set", choice.set_id)

    def _read_records(self, session: Session, fields: Fields) -> list[PromptRecord]:
        """Return the requests of a form: from a file, a chat, all rated answers, or a question.

        Raises:
            UserError: The requests are invalid, or cannot be read.
        """
        if len(file := fields.get("file", [])) == 2:
            return _read_file(*file)
        chat_id, question = _first(fields, "chat"), _first(fields, "question").strip()
        if chat_id == RATED:
            return collect_rated_records(self._history, session.user_id)
        if chat_id:
            conversation = self._chats.load(session, chat_id)
            return build_records(conversation, {turn.id for turn in conversation.turns if turn.answer})
        if not question:
            return []
        system, expected = _first(fields, "system"), _first(fields, "expected")
        messages = (*([Message("system", system)] if system.strip() else ()), Message("user", question))
        return [PromptRecord(messages, {EXPECTED_RESPONSE: expected} if expected.strip() else {})]

    def _save_record(self, _: Session, choice: EvaluationsChoice, fields: Fields) -> EvaluationsChoice:
        """Set the expected answer; other expectations stay."""
        key = _first(fields, "key")
        records = {record.key: record for record in self._sets.load(choice.set_id).records}
        if (record := records.get(key)) is None:
            raise UserError("no_such_record")
        expected = {**record.expectations, EXPECTED_RESPONSE: _first(fields, "expected")}
        self._sets.edit_expectations(choice.set_id, key, expected)
        return replace(choice, version=None)

    def _remove_record(self, _: Session, choice: EvaluationsChoice, fields: Fields) -> EvaluationsChoice:
        self._sets.remove_records(choice.set_id, [_first(fields, "value")])
        return replace(choice, version=None)

    @staticmethod
    def _show_version(_: Session, choice: EvaluationsChoice, fields: Fields) -> EvaluationsChoice:
        return replace(choice, version=read_number(_first(fields, "value")), start=0)

    @staticmethod
    def _show_from(_: Session, choice: EvaluationsChoice, fields: Fields) -> EvaluationsChoice:
        return replace(choice, start=read_number(_first(fields, "value")) or 0)

    # Evaluations

    def _start(self, _: Session, __: EvaluationsChoice, fields: Fields) -> EvaluationsChoice:
        """Start an evaluation.

        Raises:
            UserError: no_models_chosen, no_such_prompt_set, or those of Evaluations.start.
        """
        prompt_set = self._sets.load(_first(fields, "set"))
        entries = {entry.model_id: entry for entry in self._models.list_usable()}
        chosen = [entries[key] for key in dict.fromkeys(fields.get("model", [])) if key in entries]
        if not chosen:
            raise UserError("no_models_chosen")
        presets = [key for key in dict.fromkeys(fields.get("preset", [])) if key in PRESETS] or [""]
        max_tokens = _first(fields, "max_tokens").strip()
        repeats = read_number(_first(fields, "repeats")) or 1
        plan = plan_evaluation(
            prompt_set,
            list_candidates(
                [(entry.name, entry) for entry in chosen], presets, {"max_tokens": max_tokens} if max_tokens else {}
            ),
            scorers=(
                *fields.get("scorer", []),
                *(line.strip() for line in _first(fields, "scorers").splitlines() if line.strip()),
            ),
            repeats=min(repeats, _MAX_REPEATS),
            judge=plan_judge(self._settings.judge, self._models.find) if _first(fields, "judge") else None,
            time_limit=self._settings.answer_seconds,
        )
        return _follow(self._evaluations.start(plan, prompt_set.records))

    def _cancel(self, _: Session, choice: EvaluationsChoice, fields: Fields) -> EvaluationsChoice:
        if running := self._evaluations.get_running(_first(fields, "value")):
            running.cancel()
        return choice

    def _resume(self, _: Session, __: EvaluationsChoice, fields: Fields) -> EvaluationsChoice:
        return _follow(self._evaluations.resume(_first(fields, "value")))


def _follow(running: RunningEvaluation) -> EvaluationsChoice:
    return EvaluationsChoice("results", evaluation_id=running.id)


def _read_file(name: str, text: str) -> list[PromptRecord]:
    """Return the requests of a file that the browser has read. Raises UserError as read_records does."""
    suffix = Path(name).suffix.lower()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"prompts{suffix if suffix in ('.txt', '.csv', '.jsonl') else ''}"
        file.write_bytes(text.encode())
        return read_records(file, name=Path(name).name[:200])


def _parse_fields(data: Mapping[str, object]) -> dict[str, list[str]]:
    """Return the fields of a form; values that are not lists of strings are left out."""
    return {
        name: [replace_surrogates(one) for one in value]
        for name, value in data.items()
        if isinstance(value, list) and all(isinstance(one, str) for one in value)
    }


def _first(fields: Fields, name: str) -> str:
    return next(iter(fields.get(name, ())), "")
