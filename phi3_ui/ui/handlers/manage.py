"""What changes models rather than chats: add one, promote one, log one again, pick a template. No layout, no HTML."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from phi3_ui.errors import UserError
from phi3_ui.i18n.translate import tr, tr_error
from phi3_ui.provision.jobs import Job
from phi3_ui.provision.recipes import Recipe, recipe_from_arguments, recipe_from_preset
from phi3_ui.provision.relog import recipe_from_logged_model
from phi3_ui.settings import Settings
from phi3_ui.store.registry.catalogue import Catalogue
from phi3_ui.store.registry.versions import Registry
from phi3_ui.ui.render import panels
from phi3_ui.ui.sessions import Session

Updates = dict[Any, Any]

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


@dataclass(frozen=True)
class ManagePage:
    """The components that these handlers write to."""

    template: gr.Dropdown
    own: gr.Group
    add: gr.Button
    cancel: gr.Button
    progress: gr.HTML
    ticker: gr.Timer
    alias: gr.Radio
    confirmation: gr.Group
    question: gr.HTML
    relog: gr.Button


@dataclass
class ManageHandlers:
    """`session` finds the session of a request; `list_models` and `pick` are the page's own, for what has changed."""

    page: ManagePage
    settings: Settings
    catalogue: Catalogue
    session: Callable[[gr.Request], Session]
    shown: Callable[[Session], Updates]
    additions: Additions = field(init=False)
    registry: Registry = field(init=False)

    def __post_init__(self) -> None:
        self.additions = Additions(self.settings)
        self.registry = Registry(self.settings.tracking_uri)

    # Adding

    def choose_source(self, preset: str) -> Updates:
        return {self.page.own: gr.Group(visible=preset == OWN)}

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
        session = self.session(request)
        return self._started(lambda: recipe_from_logged_model(self.settings, session.model_id or ""), request)

    def cancel(self, request: gr.Request) -> Updates:
        if job := self.additions.job:
            job.cancel()
        return self.tick(request)

    def tick(self, request: gr.Request) -> Updates:
        """How the addition stands; once it has ended, the models as they are now."""
        page, session, job = self.page, self.session(request), self.additions.job
        state = job.state if job else None
        running = bool(state and not state.is_finished)
        updates: Updates = {
            page.progress: panels.job_panel(session.language, state, job.recipe.name if job else ""),
            page.cancel: gr.Button(visible=running),
            page.add: gr.Button(interactive=not running and self.settings.manage),
            page.ticker: gr.Timer(active=running),
        }
        return updates if running else {**updates, **self.shown(session)}

    def _started(self, recipe: Callable[[], Recipe], request: gr.Request) -> Updates:
        session = self.session(request)
        try:
            self._allowed()
            self.additions.start(recipe)
        except UserError as error:
            return {self.page.progress: panels.problem(tr_error(session.language, error))}
        return self.tick(request)

    # Registry

    def ask_promote(self, alias: str, request: gr.Request) -> Updates:
        """Show what promoting would change, to be confirmed."""
        page, session = self.page, self.session(request)
        try:
            self._allowed()
            card = self.catalogue.card(session.model_id or "")
            if not card.versions:
                raise UserError("not_registered", model=card.entry.name)
        except UserError as error:
            return {page.question: panels.problem(tr_error(session.language, error)), page.confirmation: _shown(False)}
        version = card.versions[-1]
        now = self.registry.version_of(version.name, alias)
        key = "promote.same" if now == version.version else "promote.moves" if now else "promote.new"
        words = tr(session.language, key, alias=alias, name=version.name, version=version.version, now=now or "")
        session.promotion = None if now == version.version else (version.name, version.version, alias)
        return {page.question: panels.note(words), page.confirmation: _shown(session.promotion is not None)}

    def promote(self, request: gr.Request) -> Updates:
        """Do what was confirmed."""
        page, session = self.page, self.session(request)
        promotion, session.promotion = session.promotion, None
        if promotion is None:
            return self.forget_promotion(request)
        name, version, alias = promotion
        try:
            self._allowed()
            self.registry.promote(name, version, alias)
        except UserError as error:
            return {page.question: panels.problem(tr_error(session.language, error)), page.confirmation: _shown(False)}
        words = tr(session.language, "promote.done", alias=alias, name=name, version=version)
        updates = {page.question: panels.note(words), page.confirmation: _shown(False)}
        return {**updates, **self.shown(session)}

    def forget_promotion(self, request: gr.Request) -> Updates:
        self.session(request).promotion = None
        return {self.page.question: "", self.page.confirmation: _shown(False)}

    # Template

    def pick_template(self, key: str | None, request: gr.Request) -> None:
        """Keep the template of the picked model: on the model if the store may be written, else for this page."""
        session = self.session(request)
        if not key or not session.model_id:
            return
        session.templates[session.model_id] = key
        try:
            kept = self.settings.manage and self.catalogue.set_template(session.model_id, key)
        except UserError as error:
            gr.Warning(tr_error(session.language, error))
            return
        if not kept:
            gr.Info(tr(session.language, "template.here_only"))

    def _allowed(self) -> None:
        if not self.settings.manage:
            raise UserError("not_allowed")


def _shown(visible: bool) -> gr.Group:
    return gr.Group(visible=visible)
