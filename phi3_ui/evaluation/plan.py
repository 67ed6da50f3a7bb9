"""The plan of an evaluation: a value that is stored with each of its runs, so that it can be resumed."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from pydantic import TypeAdapter

from phi3_ui.chat.presets import PARAM_PRESETS
from phi3_ui.chat.sampling_params import parse_params
from phi3_ui.chat.types import ChatRequest, GenerationParams, Message
from phi3_ui.evaluation.judge import DEFAULT_CRITERION
from phi3_ui.evaluation.prompt_set import PromptRecord, PromptSet
from phi3_ui.store.registry.cards import ModelEntry

MAX_REPEATS = 100
PRESETS: Mapping[str, Mapping[str, float]] = {"": {}, **{preset.name: preset.values for preset in PARAM_PRESETS}}
"""Values of the sampling parameters by preset name; the empty name stands for the model's own defaults."""


@dataclass(frozen=True)
class Candidate:
    """One model with its parameters. Each candidate has its own MLflow run."""

    model_id: str
    name: str
    """The name given by the caller, such as models:/x@champion; shown in the runs and the report."""
    params: GenerationParams = field(default_factory=GenerationParams)
    system: str = ""
    """The system prompt for requests that have none; blank for none."""
    template: str | None = None
    """Key of the prompt template, for a model that declares none."""


@dataclass(frozen=True)
class JudgePlan:
    """Which judge to use, and its criterion. The API key is never stored."""

    model: str
    """Id of a model in the store or, with `url`, the model's name there."""
    url: str = ""
    """URL of an OpenAI-compatible API, such as https://host/v1."""
    criterion: str = DEFAULT_CRITERION


@dataclass(frozen=True)
class EvaluationPlan:
    """A version of a prompt set × candidates × repeats, and how the answers are scored."""

    set_id: str
    """Id of the prompt set; empty for a file that is not stored as one."""
    set_name: str
    set_version: int
    set_digest: str
    candidates: tuple[Candidate, ...]
    scorers: tuple[str, ...] = ()
    """Specs of built-in scorers; see scorers.py."""
    own_scorers: tuple[str, ...] = ()
    """Custom scorers, as own_scorers.py loads them; command line only."""
    judge: JudgePlan | None = None
    repeats: int = 1
    """Each repeat has its own seed, for models that support one."""
    seed: int = 0
    """Seed of the first repeat, if a candidate's parameters have none."""
    time_limit: float | None = None
    """Seconds for one answer; None for no limit."""
    session_turns: tuple[int, ...] = ()
    """Session evaluations only: the number of turns of each conversation; its records are consecutive."""

    def build_request(self, candidate: Candidate, record: PromptRecord, repeat: int, takes_seed: bool) -> ChatRequest:
        """Build the request that sends a record to a candidate for the `repeat`-th time, counted from 0."""
        messages = record.messages
        if candidate.system.strip() and messages[0].role != "system":
            messages = (Message("system", candidate.system), *messages)
        params = candidate.params
        if takes_seed:
            params = replace(params, seed=(self.seed if params.seed is None else params.seed) + repeat)
        return ChatRequest(messages, params, candidate.template, self.time_limit)


_PLAN: TypeAdapter[EvaluationPlan] = TypeAdapter(EvaluationPlan)


def list_candidates(
    models: Iterable[tuple[str, ModelEntry]],
    presets: Sequence[str],
    values: Mapping[str, object],
    system: str = "",
    template: str | None = None,
) -> tuple[Candidate, ...]:
    """Combine each model with each parameter preset.

    Args:
        models: The models with the names given by the caller.
        presets: Keys of PRESETS. Parameters that a model does not support are left out.
        values: Parameters by name that override those of the presets.
        system: The system prompt; empty for none.
        template: As in Candidate.

    Raises:
        UserError: invalid_param, bad_seed.
    """
    return tuple(
        Candidate(
            entry.model_id,
            f"{name} ({preset})" if preset and len(presets) > 1 else name,
            parse_params({**PRESETS[preset], **values}, set(entry.supported_params)),
            system,
            template,
        )
        for name, entry in models
        for preset in presets
    )


def plan_evaluation(prompt_set: PromptSet, candidates: tuple[Candidate, ...], **options: object) -> EvaluationPlan:
    """Plan to evaluate candidates on a version of a prompt set; `options` are further fields of EvaluationPlan."""
    fields = {
        "set_id": prompt_set.id,
        "set_name": prompt_set.name,
        "set_version": prompt_set.version,
        "set_digest": prompt_set.digest,
        "candidates": candidates,
    }
    return EvaluationPlan(**(fields | options))  # type: ignore[arg-type]  # the keyword arguments are fields of EvaluationPlan


def serialize_plan(plan: EvaluationPlan) -> str:
    """Return the plan as JSON."""
    return _PLAN.dump_json(plan, indent=2).decode()


def parse_plan(text: str | bytes) -> EvaluationPlan:
    """Parse the output of `serialize_plan`. Raises ValueError if it is invalid."""
    return _PLAN.validate_json(text)
