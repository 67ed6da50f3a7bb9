"""Which model a page chats with: the list, the card, the controls that it takes, how its load goes. No layout, no HTML."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr

from phi3_ui.errors import UserError
from phi3_ui.host.protocol import ModelSpec
from phi3_ui.i18n.translate import tr, tr_error
from phi3_ui.store.registry.catalogue import ModelEntry
from phi3_ui.store.registry.doctor import diagnose
from phi3_ui.ui.page.components import Page, Updates
from phi3_ui.ui.render.context_meter import render_context_meter
from phi3_ui.ui.render.labels import alias_label, picker_label
from phi3_ui.ui.render.model_card import render_card
from phi3_ui.ui.render.model_status import render_status
from phi3_ui.ui.render.notices import render_error
from phi3_ui.ui.services import Services
from phi3_ui.ui.sessions import Session

# The words under a control that say what its values mean.
INFOS = {"temperature": "temperature_info", "top_k": "top_k_info", "stop": "stop_info", "seed": "seed_info"}

_LOOK_EVERY = 0.5  # seconds between looks at a model that loads


class ModelPicker:
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
        """The picker's choices as the store has them now; what is picked stays picked while it is there."""
        return self.listed(self._session(request))

    def listed(self, session: Session) -> Updates:
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
        keys = [key for _, key in choices]
        if session.picked not in keys:
            session.picked = keys[0] if keys else None
        updates: Updates = {page.picker: gr.Dropdown(choices=choices, value=session.picked)}
        if not entries:
            updates[page.status.line] = render_error(tr(language, "store_empty"))
        return updates

    def pick(self, key: str | None, request: gr.Request) -> Iterator[Updates]:
        """Show a model's card, load it, and say how the load goes until it has ended or another model is picked."""
        session = self._session(request)
        session.picked, session.entry = key or None, None
        try:
            entry = self._catalogue.find(key)
            card = self._card(session, entry)
            if session.picked != key:  # another was picked meanwhile
                yield {self._page.status.line: gr.skip()}  # a generator that yields nothing empties its outputs
                return
            session.entry = entry
            yield {**card, **self._controls(session, entry), **self.context_of(session)}
            model = self._pool.get_model(self.spec(entry))
        except UserError as error:
            yield {self._page.status.line: render_error(tr_error(session.language, error))}
            return
        while not model.ready.done() and session.picked == key:
            yield self.status_of(session)
            self._wait_for_load(model.ready)
        if session.picked == key:
            yield self.status_of(session)

    def shown_model(self, session: Session) -> Updates:
        """The picker and the picked model's card, as the store has them now."""
        updates = self.listed(session)
        if not session.picked:
            return updates
        try:
            entry = self._catalogue.find(session.picked)
            return {**updates, **self._card(session, entry), **self._controls(session, entry)}
        except UserError as error:
            return {**updates, self._page.status.line: render_error(tr_error(session.language, error))}

    def _card(self, session: Session, entry: ModelEntry) -> Updates:
        """The model's card and state of health."""
        page, language = self._page, session.language
        card = self._catalogue.load_card(entry.model_id)
        diagnosis = diagnose(self._catalogue.tracking_uri, entry.model_id)
        template = session.templates.get(entry.model_id) or entry.template
        return {
            page.card.panel: self._mlflow.of_card(language, card) + render_card(language, card, diagnosis),
            page.card.relog: gr.Button(visible=diagnosis.can_relog and diagnosis.severity != "ok"),
            page.settings.template: gr.Dropdown(visible=entry.requires_template, value=template),
        }

    def card_of(self, session: Session) -> Updates:
        """The picked model's card once more; nothing where the store does not answer."""
        try:
            return self._card(session, session.entry) if session.entry else {}
        except UserError:
            return {}

    def _controls(self, session: Session, entry: ModelEntry) -> Updates:
        """Those that this model takes and the last one did not, or the other way round.

        The others are let be: an update undoes what a person changes at that moment.
        """
        off = frozenset(self._page.settings.controls) - set(entry.supported_params)
        changed, session.off = off ^ session.off, off
        return {
            self._page.settings.controls[name]: self._control(session.language, name, name in off) for name in changed
        }

    @staticmethod
    def _control(language: str, name: str, off: bool) -> Any:
        info = tr(language, INFOS[name]) if name in INFOS else ""
        return gr.update(interactive=not off, info=tr(language, "control_off") if off else info)

    def status(self, request: gr.Request) -> Updates:
        return self.status_of(self._session(request))

    def unload(self, request: gr.Request) -> Updates:
        session = self._session(request)
        try:
            self._pool.unload(session.model_id or "")
        except UserError as error:
            gr.Warning(tr_error(session.language, error))
        return self.status_of(session)

    @staticmethod
    def _wait_for_load(ready: Any) -> None:
        with contextlib.suppress(TimeoutError, UserError):  # the next status says which
            ready.result(timeout=_LOOK_EVERY)

    def status_of(self, session: Session) -> Updates:
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
        meter = render_context_meter(session.language, session.entry, session.current.conversation)
        return {self._page.chat.context: meter}

    def spec(self, entry: ModelEntry) -> ModelSpec:
        return ModelSpec(
            entry.model_id,
            entry.name,
            entry.uri,
            entry.contract,
            entry.tracking_uri,
            cache_mb=self._settings.cache_mb,
        )
