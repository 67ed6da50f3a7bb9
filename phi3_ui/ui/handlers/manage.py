"""Changes to the models of the store: add, promote, log again, pick a prompt template."""

import threading
from collections.abc import Callable

import gradio as gr

from phi3_ui.errors import UserError
from phi3_ui.i18n.translate import tr
from phi3_ui.provision.jobs import Job
from phi3_ui.provision.recipes import Recipe, recipe_from_arguments, recipe_from_preset
from phi3_ui.provision.relog import recipe_from_logged_model
from phi3_ui.remote_servers import create_remote_server
from phi3_ui.settings import Settings
from phi3_ui.store.registry.versions import Registry
from phi3_ui.ui.notices import show_info, show_warning
from phi3_ui.ui.page.components import Page, Updates
from phi3_ui.ui.render.job_progress import render_job
from phi3_ui.ui.render.model_presets import OWN, REMOTE
from phi3_ui.ui.render.notices import render_error, render_note
from phi3_ui.ui.services import Services
from phi3_ui.ui.session_values import Promotion
from phi3_ui.ui.sessions import Session


class Additions:
    """The job that adds a model: one at a time in this app, across all users. Thread-safe."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._job: Job | None = None

    @property
    def job(self) -> Job | None:
        """The current or last job."""
        return self._job

    def start(self, find_recipe: Callable[[], Recipe]) -> None:
        """Start a job. Raises UserError("already_adding") while another one is running."""
        with self._lock:
            if self._job and not self._job.state.is_finished:
                raise UserError("already_adding", name=self._job.recipe.name)
            self._job = Job(self._settings, find_recipe()).start()


class ManageHandlers:
    """Handlers of the sections that change models."""

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
        self._remote = services.models.remote
        self._session = session
        self._refresh_models = refresh_models
        self._additions = Additions(services.settings)
        self._registry = Registry(services.settings.tracking_uri)

    # Adding

    def add(self, request: gr.Request, **form: str) -> Updates:
        """Start adding the model that the form describes; the form keeps its values."""
        fields = {name: str(value or "").strip() for name, value in form.items()}
        server = {name.removeprefix("remote_"): fields.pop(name) for name in [*fields] if name.startswith("remote_")}
        preset, kind, source = (fields.pop(name) for name in ("preset", "kind", "source"))
        if preset == REMOTE:
            return self._add_server(server, request)

        def recipe() -> Recipe:
            if preset == OWN:
                return recipe_from_arguments(**{kind: source}, **fields)
            return recipe_from_preset(preset, fields["device"], revision=fields["revision"])

        return self._start(recipe, request)

    def _add_server(self, fields: dict[str, str], request: gr.Request) -> Updates:
        """Add a remote server if it responds. Visitors may not: the app would send requests to any host they name."""
        page, session = self._page, self._session(request)
        models = tuple(filter(None, (name.strip() for name in fields["models"].split(","))))
        try:
            if not self._settings.is_single_user:
                raise UserError("remote_not_allowed")
            try:
                server = create_remote_server(**{**fields, "models": models})
            except ValueError as error:
                raise UserError("remote_invalid", detail=str(error)) from error
            count = self._remote.add(server)
        except UserError as error:
            return {page.add_model.progress: render_error(session.explain(error))}
        note = render_note(tr(session.language, "remote.added", name=server.name, count=count))
        return {
            page.add_model.progress: note,
            page.add_model.form["remote_key"]: "",
            **self._refresh_models(session),
        }

    def forget_server(self, request: gr.Request) -> Updates:
        """Remove the server of the selected model, with its key."""
        session = self._session(request)
        try:
            if not self._settings.is_single_user:
                raise UserError("remote_not_allowed")
            if (entry := session.model.entry) and entry.is_unlogged:
                self._remote.remove(entry.name.partition("/")[0])
        except UserError as error:
            show_warning(session.explain(error))
        return self._refresh_models(session)

    def relog(self, request: gr.Request) -> Updates:
        """Log the selected model again, from its files in the store, with the installed packages."""
        session = self._session(request)
        return self._start(lambda: recipe_from_logged_model(self._settings, session.model.id or ""), request)

    def cancel(self, request: gr.Request) -> Updates:
        """Cancel the running job."""
        if job := self._additions.job:
            job.cancel()
        return self.tick(request)

    def resume(self, request: gr.Request) -> Updates:
        """Show the job on a page opened while it runs."""
        job = self._additions.job
        if job is None or job.state.is_finished:
            return {self._page.add_model.progress: gr.skip()}
        return self.tick(request)

    def tick(self, request: gr.Request) -> Updates:
        """Show the job's progress; once it has finished, refresh the models."""
        page, session, job = self._page, self._session(request), self._additions.job
        state = job.state if job else None
        running = bool(state and not state.is_finished)
        updates: Updates = {
            page.add_model.progress: render_job(
                session.language, state, job.recipe.name if job else "", session.redact
            ),
            page.add_model.cancel: gr.Button(visible=running),
            page.add_model.add: gr.Button(interactive=not running and self._settings.manage),
            page.add_model.ticker: gr.Timer(active=running),
        }
        return updates if running else {**updates, **self._refresh_models(session)}

    def _start(self, recipe: Callable[[], Recipe], request: gr.Request) -> Updates:
        session = self._session(request)
        try:
            self._require_permission()
            self._additions.start(recipe)
        except UserError as error:
            return {self._page.add_model.progress: render_error(session.explain(error))}
        return self.tick(request)

    # Registry

    def ask_promote(self, alias: str, request: gr.Request) -> Updates:
        """Show what a promotion would change, for confirmation."""
        page, session = self._page, self._session(request)
        try:
            self._require_permission()
            if (entry := session.model.entry) and entry.is_unlogged:
                raise UserError("remote_not_registered", model=entry.name)
            card = self._catalogue.load_card(session.model.id or "")
            if not card.versions:
                raise UserError("not_registered", model=card.entry.name)
        except UserError as error:
            return {
                page.registry.question: render_error(session.explain(error)),
                page.registry.confirmation: _shown(False),
            }
        version = card.versions[-1]
        now = self._registry.get_alias_version(version.name, alias)
        key = "promote.same" if now == version.version else "promote.moves" if now else "promote.new"
        text = tr(session.language, key, alias=alias, name=version.name, version=version.version, now=now or "")
        is_current = now == version.version
        session.panels.promotion = None if is_current else Promotion(version.name, version.version, alias)
        return {
            page.registry.question: render_note(text),
            page.registry.confirmation: _shown(not is_current),
        }

    def promote(self, request: gr.Request) -> Updates:
        """Perform the confirmed promotion."""
        page, session = self._page, self._session(request)
        if (promotion := session.take_promotion()) is None:
            return self.forget_promotion(request)
        name, version, alias = promotion.name, promotion.version, promotion.alias
        try:
            self._require_permission()
            self._registry.promote(name, version, alias)
        except UserError as error:
            return {
                page.registry.question: render_error(session.explain(error)),
                page.registry.confirmation: _shown(False),
            }
        text = tr(session.language, "promote.done", alias=alias, name=name, version=version)
        updates = {page.registry.question: render_note(text), page.registry.confirmation: _shown(False)}
        return {**updates, **self._refresh_models(session)}

    def forget_promotion(self, request: gr.Request) -> Updates:
        """Drop the promotion awaiting confirmation."""
        self._session(request).take_promotion()
        return {self._page.registry.question: "", self._page.registry.confirmation: _shown(False)}

    # Template

    def pick_template(self, key: str | None, request: gr.Request) -> None:
        """Set the template of the selected model: on the model if the store may be changed, otherwise for this page."""
        session = self._session(request)
        if not key or not (model_id := session.model.id):
            return
        session.model.set_template(model_id, key)
        try:
            is_stored = self._settings.manage and self._catalogue.set_template(model_id, key)
        except UserError as error:
            show_warning(session.explain(error))
            return
        if not is_stored:
            show_info(tr(session.language, "template.here_only"))

    def _require_permission(self) -> None:
        if not self._settings.manage:
            raise UserError("management_disabled")


def _shown(visible: bool) -> gr.Group:
    return gr.Group(visible=visible)
