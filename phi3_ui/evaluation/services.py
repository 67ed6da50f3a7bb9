"""Opens evaluations with the models of the app, for the page and the command line alike."""

from collections.abc import Callable

from phi3_ui.chat.chat_model import ChatModel
from phi3_ui.errors import UserError
from phi3_ui.evaluation.evaluations import Evaluations, ModelAccess
from phi3_ui.evaluation.judge import DEFAULT_CRITERION
from phi3_ui.evaluation.plan import JudgePlan
from phi3_ui.host.pool import Pool
from phi3_ui.settings import Settings
from phi3_ui.store.conversations.location import ChatLocation
from phi3_ui.store.registry.admission import Admission
from phi3_ui.store.registry.cards import ModelEntry
from phi3_ui.store.registry.catalogue import Catalogue
from phi3_ui.store.registry.specs import build_spec


def open_evaluations(
    settings: Settings, catalogue: Catalogue, admission: Admission, pool: Pool, locate: Callable[[], ChatLocation]
) -> Evaluations:
    """The evaluations of the configured store. Their models are loaded by `pool`, as those of chats."""

    def get(entry: ModelEntry, template: str | None) -> ChatModel:
        return pool.get_model(build_spec(settings, entry, template))

    access = ModelAccess(catalogue.find, admission.require, get)
    return Evaluations(locate, access, settings.home / "evaluations", settings.judge_key.get_secret_value)


def plan_judge(judge: str, find: Callable[[str], ModelEntry], criterion: str = DEFAULT_CRITERION) -> JudgePlan | None:
    """The judge that PHI3_UI_JUDGE or --judge names: a model that `find` finds, or `URL MODEL`; None for an empty one.

    Raises:
        UserError: bad_judge, and those of `find`.
    """
    judge = judge.strip()
    if not judge:
        return None
    if not judge.startswith(("http:", "https:")):
        return JudgePlan(find(judge).model_id, criterion=criterion)
    url, _, model = judge.partition(" ")
    if not model.strip():
        raise UserError("bad_judge", judge=judge)
    return JudgePlan(model.strip(), url, criterion)
