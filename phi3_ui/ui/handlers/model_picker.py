"""The model that a page chats with: the picker, its card, the controls that it supports, and loading it."""

import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr

from phi3_ui.chat.sampling_params import SAMPLING_PARAMS
from phi3_ui.errors import UserError
from phi3_ui.host.hosted_model import HostedModel
from phi3_ui.i18n.translate import tr
from phi3_ui.sources.model_source import CLOSED, OpenState
from phi3_ui.store.registry.admission import Review
from phi3_ui.store.registry.catalogue import ModelCard, ModelEntry, choose_default_model
from phi3_ui.ui.handlers.context_meter import ContextMeter
from phi3_ui.ui.notices import show_warning
from phi3_ui.ui.page.components import Page, Updates
from phi3_ui.ui.render.demo_hint import render_demo_hint
from phi3_ui.ui.render.model_card import Health, render_card
from phi3_ui.ui.render.model_menu import Problems, alias_keys, describe_menu, measure_speeds, server_title
from phi3_ui.ui.render.model_status import ModelStates, ModelStatus, Selected, describe_status, render_cache
from phi3_ui.ui.render.remote_notice import render_remote_notice
from phi3_ui.ui.services import Services
from phi3_ui.ui.session_values import Approval
from phi3_ui.ui.sessions import Session

_HELP_KEYS = {param.name: param.help_key for param in SAMPLING_PARAMS}

_STATUS_SECONDS = 0.5  # seconds between updates while a model loads

logger = logging.getLogger(__name__)


class ModelPicker:
    """Shows and loads the selected model."""

    def __init__(
        self,
        page: Page,
        services: Services,
        session: Callable[[gr.Request], Session],
    ) -> None:
        self._page = page
        self._settings = services.settings
        self._catalogue = services.catalogue
        self._admission = services.admission
        self._pool = services.pool
        self._models = services.models
        self._pages = services.pages
        self._session = session
        self._mlflow = services.mlflow
        self._history = services.conversations.history
        self.meter = ContextMeter(page, services.models)

    def list_models(self, request: gr.Request) -> Updates:
        """Refresh the picker's choices; the selected model stays selected as long as the store has it."""
        return self.show_models(self._session(request))

    def show_models(self, session: Session) -> Updates:
        """Update the picker's choices, as list_models does."""
        page, language = self._page, session.language
        try:
            entries, registered = self._models.list_models(), self._catalogue.list_versions()
        except UserError as error:
            return {page.status.line: self._failed(session, session.explain(error))}
        listed = {entry.model_id for entry in entries}
        versions = {model_id: found for model_id, found in registered.items() if model_id in listed}
        usable = [entry for entry in entries if self._models.is_usable(entry)]
        own = [entry for entry in entries if not entry.is_remote]  # by default, nothing leaves this machine
        default = choose_default_model([entry for entry in usable if not entry.is_remote] or own)
        selected = session.model.ensure([*listed, *alias_keys(versions)], default.model_id if default else None)
        remote = [entry for entry in entries if entry.is_remote]
        problems = Problems(
            refused=listed - {entry.model_id for entry in usable},
            unreachable={one.model_id for one in remote if self._models.get_state(one).phase == "failed"},
            servers={
                server_title(server.name, server.host): session.explain(error)
                for server, error in self._models.remote.list_failures()
            },
        )
        updates: Updates = {
            page.picker: selected or "",
            page.status.menu: describe_menu(language, entries, versions, problems),
        }
        picked = next((entry for entry in entries if entry.model_id == selected), None)
        if (
            picked and session.model.entry is None
        ):  # `pick` looks it up a moment later; until then, "No model" would be wrong
            updates[page.status.line] = self._describe(session, picked=Selected(picked))
        if not entries:
            updates[page.status.line] = self._failed(session, tr(language, "store_empty"))
        return updates

    def pick(self, key: str | None, request: gr.Request) -> Iterator[Updates]:
        """Show a model's card, load it, and show the progress until it is loaded or another model is selected."""
        session = self._session(request)
        key = key or None
        session.model.select(key)
        try:
            entry = self._models.find(key)
            card = self._models.load_card(entry)
            shown = self._card(session, card)
            if not session.model.set_entry(key, entry, card.versions):
                yield {self._page.status.line: gr.skip()}  # a generator that yields nothing clears its outputs
                return
            yield {**shown, **self._controls(session, entry), **self.show_context(session)}
            model = self._models.open(entry)
        except UserError as error:
            session.model.set_error(key, error)
            yield {self._page.status.line: self._failed(session, session.explain(error))}
            return
        while not model.ready.done() and session.model.key == key:
            yield self.show_status(session)
            self._wait_for_load(model.ready)
        if session.model.key == key:
            yield {**self.show_status(session), **self.show_context(session)}

    def show_selected_model(self, session: Session) -> Updates:
        """Update the picker and the selected model's card from the store."""
        updates = self.show_models(session)
        if not (key := session.model.key):
            return updates
        try:
            entry = self._models.find(key)
            card = self._models.load_card(entry)
            session.model.set_entry(key, entry, card.versions)
            return {**updates, **self._card(session, card), **self._controls(session, entry)}
        except UserError as error:
            return {**updates, self._page.status.line: self._failed(session, session.explain(error))}

    def _card(self, session: Session, card: ModelCard) -> Updates:
        """Show the model's card with its diagnosis."""
        page, language, entry = self._page, session.language, card.entry
        diagnosis = self._models.diagnose(entry)
        template = session.model.get_template(entry)
        review = self._review(entry)
        is_refused = review is not None and not review.is_loadable
        can_approve = is_refused and self._settings.is_single_user
        session.panels.offered = (
            Approval(entry.model_id, review.inspection.fingerprint) if review and can_approve else None
        )
        health = Health(diagnosis, review, can_approve)
        return {
            page.card.panel: render_card(language, card, health) + self._mlflow.render_card_links(language, card),
            page.composer.hint: render_demo_hint(language, entry, self._settings.manage)
            or render_remote_notice(language, entry),
            page.card.forget: gr.Button(visible=self._settings.is_single_user and self._models.remote.is_added(entry)),
            page.card.relog: gr.Button(visible=diagnosis.can_relog and diagnosis.severity != "ok"),
            page.settings.template: gr.Dropdown(visible=entry.requires_template, value=template),
        }

    def _review(self, entry: ModelEntry) -> Review | None:
        if entry.is_remote:  # nothing of it is loaded here
            return None
        try:
            return self._admission.review(entry)
        except OSError as error:  # the diagnosis reports it
            logger.info("The files of %s cannot be inspected: %s", entry.name, error)
            return None

    def approve(self, key: str | None, request: gr.Request) -> Iterator[Updates]:
        """Approve the code shown on the card, and load the model."""
        session = self._session(request)
        offered, entry = session.panels.offered, session.model.entry
        try:
            if not self._settings.is_single_user:
                raise UserError("management_disabled")
            review = self._review(entry) if entry else None
            if not (entry and review) or offered != Approval(entry.model_id, review.inspection.fingerprint):
                show_warning(tr(session.language, "trust.changed"))
                yield self.show_card(session) or {self._page.status.line: gr.skip()}
                return
            self._admission.approvals.add(offered.fingerprint)
        except UserError as error:
            show_warning(session.explain(error))
            yield {self._page.status.line: gr.skip()}
            return
        yield self.show_models(session)
        yield from self.pick(key, request)

    def show_card(self, session: Session) -> Updates:
        """Update the selected model's card from the store; no update if the store does not respond."""
        if not (entry := session.model.entry):
            return {}
        try:
            return self._card(session, self._models.load_card(entry))
        except UserError as error:
            logger.info("The card of %s is not refreshed: %s", entry.name, error)
            return {}

    def _controls(self, session: Session, entry: ModelEntry) -> Updates:
        """Disable the controls that the model does not support, and enable those that only the previous one did not support.

        The others are not updated: an update would undo what the user is changing at that moment.
        """
        controls = self._page.settings.controls
        unsupported = frozenset(controls) - set(entry.supported_params)
        changed = session.model.update_unsupported_controls(unsupported)
        return {controls[name]: self._control(session.language, name, name in unsupported) for name in changed}

    @staticmethod
    def _control(language: str, name: str, is_disabled: bool) -> Any:
        help_key = "control_off" if is_disabled else _HELP_KEYS[name]
        return gr.update(interactive=not is_disabled, info=tr(language, help_key) if help_key else "")

    def unload(self, request: gr.Request) -> Updates:
        """Unload the selected model, unless other users use it. The user of a single-user app always may."""
        session = self._session(request)
        try:
            if model := self._pool.peek(session.model.id or ""):
                self._require_unshared(session, model)
                self._pool.unload(model.spec.model_id)
        except UserError as error:
            show_warning(session.explain(error))
        return self.show_status(session)

    def _require_unshared(self, session: Session, model: HostedModel) -> None:
        """Raise UserError("model_shared") if another user would have to wait until the model is loaded again."""
        if not self._settings.is_single_user and self._pages.is_model_shared(model.spec.model_id, session.user_id):
            raise UserError("model_shared", model=model.spec.name)

    @staticmethod
    def _wait_for_load(ready: Any) -> None:
        with contextlib.suppress(TimeoutError, UserError):  # show_status shows the error
            ready.result(timeout=_STATUS_SECONDS)

    def show_status(self, session: Session) -> Updates:
        """Show whether the selected model is loaded."""
        page, entry = self._page, session.model.entry
        state = self._models.get_state(entry) if entry else CLOSED
        problem = state.error or (session.model.error if state.phase == "closed" else None)
        cache = None if self._hides_models(session) else state.cache
        return {
            page.status.line: self._failed(session, session.explain(problem))
            if problem
            else self._describe(session, state),
            page.status.cache: render_cache(session.language, cache, state.batching),
            page.status.unload: gr.Button(
                interactive=state.phase == "ready" and entry is not None and not entry.is_remote
            ),
        }

    def _hides_models(self, session: Session) -> bool:
        """Whether the page shows a blind round without a vote: the contents of a model's cache would reveal its answer."""
        if (comparison := session.comparison) is None:
            return False
        return comparison.has_hidden_round(self._history.list_verdicts(session.user_id, comparison.id))

    def _describe(
        self,
        session: Session,
        state: OpenState = CLOSED,
        error: str = "",
        picked: Selected | None = None,
    ) -> ModelStatus:
        """Describe the selected model's status, or that of `picked`; `state` and `error` are as in describe_status."""
        model = session.model.selection
        selected = Selected(model.entry, model.version) if model.entry else picked
        speeds = measure_speeds(self._history.list_turn_metrics(session.user_id))
        return describe_status(session.language, selected, ModelStates(self._models.list_ready(), speeds), state, error)

    def _failed(self, session: Session, sentence: str) -> ModelStatus:
        """Describe the status of a model that cannot be used; `sentence` is the reason."""
        return self._describe(session, error=sentence)

    def show_context(self, session: Session) -> Updates:
        """Show how full the selected model's context is."""
        return self.meter.draw(session)
