"""The services that the page's handlers use, built once by the composition root."""

from dataclasses import dataclass

from phi3_ui.accounts.quotas import Quotas
from phi3_ui.api.metrics import Metrics
from phi3_ui.evaluation.evaluations import Evaluations
from phi3_ui.evaluation.prompt_sets import PromptSets
from phi3_ui.host.pool import Pool
from phi3_ui.provision.first_run import FirstRun
from phi3_ui.settings import Settings
from phi3_ui.sources.all_models import AllModels
from phi3_ui.store.conversations.location import ChatLocator
from phi3_ui.store.conversations.turn_writer import ConversationStore
from phi3_ui.store.registry.admission import Admission
from phi3_ui.store.registry.catalogue import Catalogue
from phi3_ui.ui.imports import Imports
from phi3_ui.ui.open_pages import OpenPages
from phi3_ui.ui.render.mlflow_links import MlflowLinks


@dataclass(frozen=True)
class Services:
    """The collaborators of the handlers."""

    settings: Settings
    catalogue: Catalogue
    """The models of the tracking store."""
    admission: Admission
    """Which of them may be loaded."""
    pool: Pool
    """Those that are loaded, and their processes."""
    models: AllModels
    """All models: of the store, and of remote servers."""
    first_run: FirstRun
    """The setup job that fills an empty store."""
    conversations: ConversationStore
    """History and recorder of the chats."""
    locator: ChatLocator
    """Where the chats are kept."""
    metrics: Metrics
    """Metrics of the answers."""
    prompt_sets: PromptSets
    """The prompt sets that models are evaluated with."""
    evaluations: Evaluations
    """Evaluations of models, running and finished."""
    quotas: Quotas
    """The limits of each user."""
    imports: Imports
    """The imports of chat files."""
    pages: OpenPages
    """The open pages with their sessions."""
    mlflow: MlflowLinks
    """Links into MLflow's own UI."""
