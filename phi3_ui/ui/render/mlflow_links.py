"""Links from the page into MLflow's own UI, while that answers. All values are escaped here."""

from collections.abc import Callable
from html import escape

from phi3_ui.i18n.translate import tr
from phi3_ui.store import links
from phi3_ui.store.conversations.traces import trace_id_for
from phi3_ui.store.registry.cards import ModelCard


class MlflowLinks:
    """Empty texts while MLflow's UI does not answer. `experiment_id` gives that of the chats' experiment."""

    def __init__(self, ui: links.MlflowUi, experiment_id: Callable[[], str]) -> None:
        self._ui = ui
        self._experiment_id = experiment_id
        ui.is_available()  # the first look is under way before anybody asks

    @property
    def base(self) -> str | None:
        return self._ui.url if self._ui.is_available() else None

    def of_turn(self, language: str, turn_id: str) -> str:
        """An answer's trace."""
        if not (base := self.base):
            return ""
        url = links.trace_url(base, self._experiment_id(), trace_id_for(turn_id))
        return _link(url, "MLflow", tr(language, "mlflow.trace"))

    def of_chat(self, language: str, conversation_id: str) -> str:
        """All traces of a chat, turn by turn."""
        if not (base := self.base):
            return ""
        url = links.session_url(base, self._experiment_id(), conversation_id)
        return f'<p class="phi3-quiet">{_link(url, tr(language, "mlflow.chat"))}</p>'

    def of_card(self, language: str, card: ModelCard) -> str:
        """A model, its run, its versions."""
        if not (base := self.base):
            return ""
        entry, found = card.entry, list[str]()
        if card.experiment_id:
            found.append(
                _link(links.logged_model_url(base, card.experiment_id, entry.model_id), tr(language, "mlflow.model"))
            )
        if card.run and card.run.experiment_id:
            found.append(
                _link(links.run_url(base, card.run.experiment_id, card.run.run_id), tr(language, "mlflow.run"))
            )
        for version in card.versions:
            words = tr(language, "card.version", version=version.version)
            found.append(_link(links.model_version_url(base, version.name, version.version), words, version.name))
        return f'<p class="phi3-quiet">{escape(tr(language, "mlflow.open"))}: {" · ".join(found)}</p>' if found else ""


def _link(url: str, words: str, title: str = "") -> str:
    more = f' title="{escape(title)}"' if title else ""
    return f'<a href="{escape(url)}" target="_blank" rel="noopener"{more}>{escape(words)}</a>'
