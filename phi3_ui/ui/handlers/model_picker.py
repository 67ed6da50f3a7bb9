"""The model that a page chats with: the picker, its card, the controls that it supports, and loading it."""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr

from phi3_ui.chat.sampling_params import SAMPLING_PARAMS
from phi3_ui.errors import UserError
from phi3_ui.host.protocol import ModelSpec
from phi3_ui.i18n.translate import tr, tr_error
from phi3_ui.store.registry.catalogue import ModelEntry, default_model
from phi3_ui.store.registry.doctor import diagnose
from phi3_ui.ui.page.components import Page, Updates
from phi3_ui.ui.render.context_meter import render_context_meter
from phi3_ui.ui.render.labels import alias_label, picker_label
from phi3_ui.ui.render.model_card import render_card
from phi3_ui.ui.render.model_status import render_status
from phi3_ui.ui.render.notices import render_error
from phi3_ui.ui.services import Services
from phi3_ui.ui.sessions import Session

_HELP_KEYS = {param.name: param.help_key for param in SAMPLING_PARAMS}

_STATUS_SECONDS = 0.5  # between updates while a model loads

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
        self._pool = services.pool
        self._session = session
        self._mlflow = services.mlflow

    def list_models(self, request: gr.Request) -> Updates:
        """Refresh the picker's choices; the selected model stays selected while the store has it."""
        return self.listed(self._session(request))

    def listed(self, session: Session) -> Updates:
        """The picker's choices, as list_models."""
        page, language = self._page, session.language
        try:
            entries, aliases = self._catalogue.list_models(), self._catalogue.list_aliases()
        except UserError as error:
            return {page.status.line: render_error(tr_error(language, error))}
        choices = [(picker_label(language, entry), entry.model_id) for entry in entries]
        choices += [
            (alias_label(language, alias.name, alias.alias, alias.version), f"{alias.name}@{alias.alias}")
            for alias in aliases
        ]
        default = default_model(entries)
        selected = session.ensure_model([key for _, key in choices], default.model_id if default else None)
        updates: Updates = {page.picker: gr.Dropdown(choices=choices, value=selected)}
        if not entries:
            updates[page.status.line] = render_error(tr(language, "store_empty"))
        return updates

    def pick(self, key: str | None, request: gr.Request) -> Iterator[Updates]:
        """Show a model's card, load it, and show the progress until it is loaded or another model is selected."""
        session = self._session(request)
        key = key or None
        session.select_model(key)
        try:
            entry = self._catalogue.find(key)
            card = self._card(session, entry)
            if not session.set_entry(key, entry):
                yield {self._page.status.line: gr.skip()}  # a generator that yields nothing empties its outputs
                return
            yield {**card, **self._controls(session, entry), **self.context_of(session)}
            model = self._pool.get_model(self.spec(entry))
        except UserError as error:
            yield {self._page.status.line: render_error(tr_error(session.language, error))}
            return
        while not model.ready.done() and session.model.key == key:
            yield self.status_of(session)
            self._wait_for_load(model.ready)
        if session.model.key == key:
            yield self.status_of(session)

    def shown_model(self, session: Session) -> Updates:
        """The picker and the selected model's card, read from the store again."""
        updates = self.listed(session)
        if not (key := session.model.key):
            return updates
        try:
            entry = self._catalogue.find(key)
            return {**updates, **self._card(session, entry), **self._controls(session, entry)}
        except UserError as error:
            return {**updates, self._page.status.line: render_error(tr_error(session.language, error))}

    def _card(self, session: Session, entry: ModelEntry) -> Updates:
        """The model's card with its diagnosis."""
        page, language = self._page, session.language
        card = self._catalogue.load_card(entry.model_id)
        diagnosis = diagnose(self._catalogue.tracking_uri, entry.model_id)
        template = session.get_template(entry)
        return {
            page.card.panel: self._mlflow.of_card(language, card) + render_card(language, card, diagnosis),
            page.card.relog: gr.Button(visible=diagnosis.can_relog and diagnosis.severity != "ok"),
            page.settings.template: gr.Dropdown(visible=entry.requires_template, value=template),
        }

    def card_of(self, session: Session) -> Updates:
        """The selected model's card, read from the store again; no update if the store does not respond."""
        if not (entry := session.model.entry):
            return {}
        try:
            return self._card(session, entry)
        except UserError as error:
            logger.info("The card of %s is not refreshed: %s", entry.name, error)
            return {}

    def _controls(self, session: Session, entry: ModelEntry) -> Updates:
        """Disable the controls that the model does not support, and enable those that only the last one did not.

        The others are not updated: an update would undo what the user is changing at that moment.
        """
        controls = self._page.settings.controls
        unsupported = frozenset(controls) - set(entry.supported_params)
        changed = session.update_unsupported_controls(unsupported)
        return {controls[name]: self._control(session.language, name, name in unsupported) for name in changed}

    @staticmethod
    def _control(language: str, name: str, is_disabled: bool) -> Any:
        help_key = "control_off" if is_disabled else _HELP_KEYS[name]
        return gr.update(interactive=not is_disabled, info=tr(language, help_key) if help_key else "")

    def unload(self, request: gr.Request) -> Updates:
        """Unload the selected model."""
        session = self._session(request)
        try:
            self._pool.unload(session.model_id or "")
        except UserError as error:
            gr.Warning(tr_error(session.language, error))
        return self.status_of(session)

    @staticmethod
    def _wait_for_load(ready: Any) -> None:
        with contextlib.suppress(TimeoutError, UserError):  # status_of shows the error
            ready.result(timeout=_STATUS_SECONDS)

    def status_of(self, session: Session) -> Updates:
        """Whether the selected model is loaded."""
        page = self._page
        model = self._pool.peek(session.model_id or "")
        if model is None:
            line = render_status(session.language, None, None)
        elif not model.ready.done():
            line = render_status(session.language, time.monotonic() - model.started, None)
        elif isinstance(error := model.ready.exception(), UserError):
            line = render_error(tr_error(session.language, error))
        else:
            line = render_status(
                session.language, None, model.ready.result() if model.is_alive else None, model.cache_use
            )
        loaded = model is not None and model.is_alive and model.ready.done()
        return {page.status.line: line, page.status.unload: gr.Button(interactive=loaded)}

    def context_of(self, session: Session) -> Updates:
        """How full the selected model's context is."""
        meter = render_context_meter(session.language, session.model.entry, session.current.conversation)
        return {self._page.chat.context: meter}

    def spec(self, entry: ModelEntry) -> ModelSpec:
        """What a model's process needs to load it."""
        return ModelSpec(
            entry.model_id,
            entry.name,
            entry.uri,
            entry.contract,
            entry.tracking_uri,
            cache_mb=self._settings.cache_mb,
        )
