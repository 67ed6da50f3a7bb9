"""Open evaluations with the models of the app, for both the page and the command line."""

from collections.abc import Callable

from phi3_ui.errors import UserError
from phi3_ui.evaluation.evaluations import Evaluations, ModelAccess
from phi3_ui.evaluation.judge import DEFAULT_CRITERION
from phi3_ui.evaluation.plan import JudgePlan
from phi3_ui.settings import Settings
from phi3_ui.sources.model_source import ModelSource
from phi3_ui.store.conversations.location import ChatLocation
from phi3_ui.store.registry.cards import ModelEntry


def open_evaluations(settings: Settings, models: ModelSource, locate: Callable[[], ChatLocation]) -> Evaluations:
    """Open the evaluations of the configured store. Their models are opened in the same way as for chats."""
    access = ModelAccess(models.find, models.require, models.open)
    return Evaluations(locate, access, settings.home / "evaluations", settings.judge_key.get_secret_value)


def plan_judge(judge: str, find: Callable[[str], ModelEntry], criterion: str = DEFAULT_CRITERION) -> JudgePlan | None:
    """Return the judge given by PHI3_UI_JUDGE or --judge: a model that `find` finds, or `URL MODEL`; None if empty.

    Raises:
        UserError: bad_judge, and the errors of `find`.
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
