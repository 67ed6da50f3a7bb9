"""What changes models rather than chats: add one, promote one, log one again, pick a template. No layout, no HTML."""

import threading
from collections.abc import Callable

import gradio as gr

from phi3_ui.errors import UserError
from phi3_ui.i18n.translate import tr, tr_error
from phi3_ui.provision.jobs import Job
from phi3_ui.provision.recipes import Recipe, recipe_from_arguments, recipe_from_preset
from phi3_ui.provision.relog import recipe_from_logged_model
from phi3_ui.settings import Settings
from phi3_ui.store.registry.versions import Registry
from phi3_ui.ui.page.components import Page, Updates
from phi3_ui.ui.render.job_progress import render_job
from phi3_ui.ui.render.notices import render_error, render_note
from phi3_ui.ui.services import Services
from phi3_ui.ui.sessions import Session

OWN = "own"
"""Chosen in place of a preset: weights of one's own."""


class Additions:
    """The model that is being added in this app, one at a time, whoever asked for it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self.job: Job | None = None

    def start(self, find_recipe: Callable[[], Recipe]) -> None:
        """UserError("already_adding") while another is on its way."""
        with self._lock:
            if self.job and not self.job.state.is_finished:
                raise UserError("already_adding", name=self.job.recipe.name)
            self.job = Job(self._settings, find_recipe()).start()


class ManageHandlers:
    def __init__(
        self,
        page: Page,
        services: Services,
        session: Callable[[gr.Request], Session],
        refresh_models: Callable[[Session], Updates],
    ) -> None:
        """`refresh_models` updates the picker and the card after the store's models have changed."""
        self._page = page
        self._settings = services.settings
        self._catalogue = services.catalogue
        self._session = session
        self._refresh_models = refresh_models
        self._additions = Additions(services.settings)
        self._registry = Registry(services.settings.tracking_uri)

    # Adding

    def choose_source(self, preset: str) -> Updates:
        return {self._page.add_model.own: gr.Group(visible=preset == OWN)}

    def add(
        self,
        preset: str,
        pipeline: str,
        onnx: str,
        build: str,
        precision: str,
        name: str,
        device: str,
        revision: str,
        request: gr.Request,
    ) -> Updates:
        """Start adding what the form says; what was typed stays, whatever comes of it."""
        revision = revision.strip()

        def recipe() -> Recipe:
            if preset == OWN:
                return recipe_from_arguments(
                    pipeline=pipeline.strip(),
                    onnx=onnx.strip(),
                    build_onnx=build.strip(),
                    precision=precision,
                    device=device,
                    name=name.strip(),
                    revision=revision,
                )
            return recipe_from_preset(preset, device, revision=revision)

        return self._started(recipe, request)

    def relog(self, request: gr.Request) -> Updates:
        """Log the picked model again, from its own files in the store, with what is installed now."""
        session = self._session(request)
        return self._started(lambda: recipe_from_logged_model(self._settings, session.model_id or ""), request)

    def cancel(self, request: gr.Request) -> Updates:
        if job := self._additions.job:
            job.cancel()
        return self.tick(request)

    def tick(self, request: gr.Request) -> Updates:
        """How the addition stands; once it has ended, the models as they are now."""
        page, session, job = self._page, self._session(request), self._additions.job
        state = job.state if job else None
        running = bool(state and not state.is_finished)
        updates: Updates = {
            page.add_model.progress: render_job(session.language, state, job.recipe.name if job else ""),
            page.add_model.cancel: gr.Button(visible=running),
            page.add_model.add: gr.Button(interactive=not running and self._settings.manage),
            page.add_model.ticker: gr.Timer(active=running),
        }
        return updates if running else {**updates, **self._refresh_models(session)}

    def _started(self, recipe: Callable[[], Recipe], request: gr.Request) -> Updates:
        session = self._session(request)
        try:
            self._allowed()
            self._additions.start(recipe)
        except UserError as error:
            return {self._page.add_model.progress: render_error(tr_error(session.language, error))}
        return self.tick(request)

    # Registry

    def ask_promote(self, alias: str, request: gr.Request) -> Updates:
        """Show what promoting would change, to be confirmed."""
        page, session = self._page, self._session(request)
        try:
            self._allowed()
            card = self._catalogue.load_card(session.model_id or "")
            if not card.versions:
                raise UserError("not_registered", model=card.entry.name)
        except UserError as error:
            return {
                page.registry.question: render_error(tr_error(session.language, error)),
                page.registry.confirmation: _shown(False),
            }
        version = card.versions[-1]
        now = self._registry.get_alias_version(version.name, alias)
        key = "promote.same" if now == version.version else "promote.moves" if now else "promote.new"
        words = tr(session.language, key, alias=alias, name=version.name, version=version.version, now=now or "")
        session.promotion = None if now == version.version else (version.name, version.version, alias)
        return {
            page.registry.question: render_note(words),
            page.registry.confirmation: _shown(session.promotion is not None),
        }

    def promote(self, request: gr.Request) -> Updates:
        """Do what was confirmed."""
        page, session = self._page, self._session(request)
        promotion, session.promotion = session.promotion, None
        if promotion is None:
            return self.forget_promotion(request)
        name, version, alias = promotion
        try:
            self._allowed()
            self._registry.promote(name, version, alias)
        except UserError as error:
            return {
                page.registry.question: render_error(tr_error(session.language, error)),
                page.registry.confirmation: _shown(False),
            }
        words = tr(session.language, "promote.done", alias=alias, name=name, version=version)
        updates = {page.registry.question: render_note(words), page.registry.confirmation: _shown(False)}
        return {**updates, **self._refresh_models(session)}

    def forget_promotion(self, request: gr.Request) -> Updates:
        self._session(request).promotion = None
        return {self._page.registry.question: "", self._page.registry.confirmation: _shown(False)}

    # Template

    def pick_template(self, key: str | None, request: gr.Request) -> None:
        """Keep the template of the picked model: on the model if the store may be written, else for this page."""
        session = self._session(request)
        if not key or not session.model_id:
            return
        session.templates[session.model_id] = key
        try:
            kept = self._settings.manage and self._catalogue.set_template(session.model_id, key)
        except UserError as error:
            gr.Warning(tr_error(session.language, error))
            return
        if not kept:
            gr.Info(tr(session.language, "template.here_only"))

    def _allowed(self) -> None:
        if not self._settings.manage:
            raise UserError("management_disabled")


def _shown(visible: bool) -> gr.Group:
    return gr.Group(visible=visible)
