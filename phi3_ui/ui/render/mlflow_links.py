"""Links from the page into MLflow's own UI, shown while it is available."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from markupsafe import Markup

from phi3_ui.errors import UserError
from phi3_ui.i18n.translate import tr
from phi3_ui.store import links
from phi3_ui.store.conversations.traces import trace_id_for
from phi3_ui.store.registry.cards import ModelCard
from phi3_ui.ui.render.templating import render


@dataclass(frozen=True)
class Link:
    """A link that opens in a new tab."""

    url: str
    label: str
    title: str = ""
    """Tooltip."""


class MlflowLinks:
    """Renders empty HTML while MLflow's UI is not available."""

    def __init__(self, ui: links.MlflowUi, experiment_id: Callable[[], str | None]) -> None:
        """`experiment_id` returns the id of the experiment that holds the chats' traces; None if that UI does not have it."""
        self._ui = ui
        self._experiment_id = experiment_id
        ui.is_available()  # starts the first check in the background

    @property
    def base(self) -> str | None:
        """The URL of MLflow's UI while it is available."""
        return self._ui.url if self._ui.is_available() else None

    def link_experiment(self) -> str | None:
        """Return the URL of the chats in MLflow's UI, or of the UI itself if they are kept elsewhere."""
        if not (base := self.base):
            return None
        try:
            experiment_id = self._experiment_id()
        except UserError:  # the page shows the error itself
            return base
        return links.experiment_url(base, experiment_id) if experiment_id else base

    def link_turn(self, language: str, turn_id: str) -> Link | None:
        """Return the link to the trace of an answer."""
        if not (base := self.base) or not (experiment_id := self._experiment_id()):
            return None
        url = links.trace_url(base, experiment_id, trace_id_for(turn_id))
        return Link(url, "MLflow", tr(language, "mlflow.trace"))

    def render_chat_link(self, language: str, conversation_id: str) -> Markup:
        """Render a link to all traces of a chat."""
        if not (base := self.base) or not (experiment_id := self._experiment_id()):
            return Markup("")
        url = links.session_url(base, experiment_id, conversation_id)
        return _render(language, "", [Link(url, tr(language, "mlflow.chat"))])

    def render_card_links(self, language: str, card: ModelCard) -> Markup:
        """Render links to a model, its run and its registered versions."""
        if not (base := self.base):
            return Markup("")
        found = list(_card_links(language, base, card))
        return _render(language, f"{tr(language, 'mlflow.open')}: ", found) if found else Markup("")


def _card_links(language: str, base: str, card: ModelCard) -> Iterator[Link]:
    if card.experiment_id:
        url = links.logged_model_url(base, card.experiment_id, card.entry.model_id)
        yield Link(url, tr(language, "mlflow.model"))
    if card.run and card.run.experiment_id:
        yield Link(links.run_url(base, card.run.experiment_id, card.run.run_id), tr(language, "mlflow.run"))
    for version in card.versions:
        url = links.model_version_url(base, version.name, version.version)
        yield Link(url, tr(language, "card.version", version=version.version), version.name)


def _render(language: str, heading: str, shown: list[Link]) -> Markup:
    return render("mlflow_links.html", language, heading=heading, links=shown)
