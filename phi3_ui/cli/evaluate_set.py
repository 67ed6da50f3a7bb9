"""`evaluate --set`: evaluate models on a prompt set, and apply the regression gate."""

import contextlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import click

from phi3_ui.cli.app import AnswerOptions, App, print_json, single_line
from phi3_ui.cli.prompt_set import open_prompt_sets
from phi3_ui.errors import UserError
from phi3_ui.evaluation.answer_rows import EvaluatedAnswer, build_table, list_metric_names
from phi3_ui.evaluation.conditions import Condition, parse_condition
from phi3_ui.evaluation.evaluations import Evaluations
from phi3_ui.evaluation.gate import GateResult, decide, describe_result, format_result, write_junit
from phi3_ui.evaluation.judge import DEFAULT_CRITERION, JUDGE_NAME
from phi3_ui.evaluation.own_scorers import load_own_scorer
from phi3_ui.evaluation.plan import EvaluationPlan, list_candidates, plan_evaluation
from phi3_ui.evaluation.prompt_set import EXPECTED_RESPONSE, PromptRecord, PromptSet
from phi3_ui.evaluation.running import RunningEvaluation
from phi3_ui.evaluation.scorers import parse_scorers
from phi3_ui.evaluation.services import open_evaluations, plan_judge
from phi3_ui.evaluation.sessions import collect_sessions
from phi3_ui.export.chat_file import read_chats
from phi3_ui.store.conversations.location import ChatLocator
from phi3_ui.store.registry.versions import Registry

_POLL_SECONDS = 0.5  # between checks of the progress


@dataclass(frozen=True)
class SetOptions:
    """The options of `evaluate` besides the sampling parameters."""

    models: tuple[str, ...]
    set_name: str | None
    chat: Path | None
    resume: str | None
    baseline: str | None
    candidate: str | None
    conditions: tuple[str, ...]
    scorers: tuple[str, ...]
    own_scorers: tuple[str, ...]
    judge: str | None
    criterion: str | None
    presets: tuple[str, ...]
    repeats: int
    is_promoting: bool
    junit: Path | None
    output: Path | None
    as_json: bool


@dataclass(frozen=True)
class _Promotion:
    """The alias to move if the candidate passes."""

    name: str
    alias: str
    version: str
    """The candidate's version."""
    expected: str | None
    """The version that the alias pointed to when the evaluation began; None: there was no such alias."""


def evaluate_set(app: App, options: SetOptions, answers: AnswerOptions) -> int:
    """Evaluate, compare and decide. Return the exit code: 0, or 1 if the candidate failed.

    Raises:
        UserError: As for Evaluations.start and `decide`; also no_answers, alias_moved, not_writable.
        click.UsageError: Options contradict each other, or a condition cannot be parsed.
    """
    conditions = _parse_conditions(options)
    locator = ChatLocator(app.settings)
    with app.open_models(app.settings.max_loaded_models) as models:
        evaluations = open_evaluations(app.settings, models, locator.locate)
        plan, records = evaluations.load_plan(options.resume) if options.resume else _plan(app, options, answers)
        _check_metrics(conditions, plan)
        promotion = _plan_promotion(app, plan) if options.is_promoting else None
        with contextlib.redirect_stdout(sys.stderr):  # MLflow prints the URLs of runs on a server
            running = evaluations.resume(options.resume) if options.resume else evaluations.start(plan, records)
            _follow(running, plan)
        return _conclude(app, evaluations, running, plan, _Outcome(options, conditions, promotion))


@dataclass(frozen=True)
class _Outcome:
    options: SetOptions
    conditions: list[Condition]
    promotion: _Promotion | None


def _parse_conditions(options: SetOptions) -> list[Condition]:
    try:
        conditions = [parse_condition(text) for text in options.conditions]
    except UserError as error:
        raise click.UsageError(str(error)) from error
    if options.resume:
        return conditions
    if options.set_name and options.chat:
        raise click.UsageError("Give --set or --chat, not both.")
    if any(one.uses_baseline for one in conditions) and not options.baseline:
        raise click.UsageError("A condition that uses “baseline” needs --baseline MODEL.")
    if options.baseline and not options.candidate:
        raise click.UsageError("--baseline needs --candidate MODEL.")
    if (conditions or options.is_promoting) and not options.candidate:
        raise click.UsageError("--fail-if and --promote need --candidate MODEL.")
    if options.candidate and len(options.presets) > 1:
        raise click.UsageError("--candidate accepts only one --preset.")
    return conditions


def _plan(app: App, options: SetOptions, answers: AnswerOptions) -> tuple[EvaluationPlan, tuple[PromptRecord, ...]]:
    prompt_set, turns = _read_chats(options.chat) if options.chat else (_load_set(app, options), ())
    names = [*options.models, *filter(None, (options.baseline, options.candidate))]
    if not names:
        raise click.UsageError("Give a MODEL, or --candidate MODEL.")
    models = [(name, app.find(name)) for name in names]
    for _, entry in models:
        answers.check(entry)
    has_expectations = any(EXPECTED_RESPONSE in record.expectations for record in prompt_set.records)
    plan = plan_evaluation(
        prompt_set,
        list_candidates(models, options.presets or ("",), answers.params.as_dict(), answers.system, answers.template),
        scorers=tuple(map(_expand_file, options.scorers)) or (("exact_match",) if has_expectations else ()),
        own_scorers=tuple(map(_make_absolute, options.own_scorers)),
        judge=plan_judge(
            app.settings.judge if options.judge is None else options.judge,
            app.find,
            options.criterion or DEFAULT_CRITERION,
        )
        if options.judge is not None or options.criterion
        else None,
        repeats=options.repeats,
        time_limit=app.settings.answer_seconds,
        session_turns=turns,
    )
    return plan, prompt_set.records


def _load_set(app: App, options: SetOptions) -> PromptSet:
    return open_prompt_sets(app).load(options.set_name or "")


def _read_chats(file: Path) -> tuple[PromptSet, tuple[int, ...]]:
    """Return the turns of the chats in a file. Raises UserError: invalid_chat_file."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise UserError("invalid_chat_file", detail=f"{file}: {error.strerror}") from error
    return collect_sessions(file.name, [conversation for _, conversation in read_chats(content)])


def _expand_file(spec: str) -> str:
    """Replace `=@FILE` in the spec of a scorer by the content of the file. Raises UserError: bad_scorer."""
    kind, at, file = spec.partition("=@")
    if not at:
        return spec
    try:
        return f"{kind}={Path(file).read_text(encoding='utf-8').strip()}"
    except (OSError, UnicodeDecodeError) as error:
        raise UserError("bad_scorer", scorer=spec, detail=f"{file} cannot be read") from error


def _make_absolute(text: str) -> str:
    """Make the path of a custom scorer absolute, so that the evaluation can be resumed from another working directory."""
    return str(Path(text).absolute()) if ".py" in text else text


def _check_metrics(conditions: list[Condition], plan: EvaluationPlan) -> None:
    """Raise UsageError if a condition uses a metric that the evaluation cannot have."""
    names = [one.name for one in parse_scorers(plan.scorers)]
    names += [one.name for text in plan.own_scorers for one in load_own_scorer(text)]
    known = list_metric_names([*names, *([JUDGE_NAME] if plan.judge else [])])
    for one in conditions:
        if one.metric not in known:
            raise click.UsageError(f"There is no metric {one.metric}. Use one of: {', '.join(sorted(known))}.")


def _plan_promotion(app: App, plan: EvaluationPlan) -> _Promotion:
    """Plan to move the baseline's alias. Raises UsageError: it is no alias, or the candidate is no version of that name."""
    if len(plan.candidates) != 2:  # a baseline and a candidate
        raise click.UsageError("--promote needs --baseline NAME@ALIAS and --candidate MODEL.")
    baseline, candidate = plan.candidates
    name, at, alias = baseline.name.removeprefix("models:/").rpartition("@")
    versions = app.catalogue.load_card(candidate.model_id).versions
    named = [one.version for one in versions if one.name == name]
    if not at or not named:
        raise click.UsageError(
            f"--promote moves an alias: give --baseline as NAME@ALIAS, and --candidate as a version of NAME. "
            f"{single_line(candidate.name)} is not a version of {single_line(name or baseline.name)}."
        )
    requested = candidate.name.rpartition("/")[2]
    version = requested if requested in named else named[-1]
    return _Promotion(name, alias, version, Registry(app.settings.tracking_uri).get_alias_version(name, alias))


def _follow(running: RunningEvaluation, plan: EvaluationPlan) -> None:
    """Print progress until the evaluation ends. Ctrl-C cancels it; it can be resumed. Raises UserError: what ended it."""
    hint = f"python -m phi3_ui evaluate --resume {running.id}"
    print(f"Evaluation {running.id}; to resume it after an interruption: {hint}", file=sys.stderr, flush=True)
    seen = running.progress
    try:
        while seen.phase != "done":
            before, seen = seen, running.wait_for_change(seen, _POLL_SECONDS)
            if (seen.done, seen.phase) != (before.done, before.phase):
                name = single_line(plan.candidates[seen.candidate].name)
                print(f"{seen.done} / {seen.total}  {name}  {seen.phase}", file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        running.cancel()
        running.wait()
        raise
    if seen.error:
        raise seen.error


def _conclude(
    app: App, evaluations: Evaluations, running: RunningEvaluation, plan: EvaluationPlan, outcome: _Outcome
) -> int:
    options = outcome.options
    answers = [evaluations.load_answers(run_id) for run_id in running.run_ids]
    if options.output:
        _write(options.output, _serialize_rows(plan, answers))
    candidate = answers[-1]
    if not any(one.answer.error is None for one in candidate):
        raise UserError("no_answers", detail=str(build_table(candidate)[0]["error"]))
    has_baseline = len(plan.candidates) == 2 and bool(options.candidate or options.resume)
    names = (plan.candidates[0].name if has_baseline else "", plan.candidates[-1].name)
    result = decide(names, outcome.conditions, answers[0] if has_baseline else [], candidate)
    if options.junit:
        _write(options.junit, write_junit(result, plan.set_name))
    is_promoted = bool(outcome.promotion) and result.has_passed
    if outcome.promotion and is_promoted:
        _promote(app, outcome.promotion)
    if options.as_json:
        print_json(_describe(running, plan, result, is_promoted))
    else:
        for one, run_id in zip(plan.candidates, running.run_ids, strict=True):
            print(f"{run_id}  {single_line(one.name)}")
        if not has_baseline:
            for one, of_model in zip(plan.candidates[:-1], answers, strict=False):
                print(f"\n{format_result(decide(('', one.name), [], [], of_model))}")
        print(f"\n{format_result(result)}")
        if outcome.promotion and is_promoted:
            print(f"{outcome.promotion.name}@{outcome.promotion.alias} is now version {outcome.promotion.version}")
    return 0 if result.has_passed else 1


def _promote(app: App, promotion: _Promotion) -> None:
    registry = Registry(app.settings.tracking_uri)
    if registry.get_alias_version(promotion.name, promotion.alias) != promotion.expected:
        raise UserError("alias_moved", alias=f"{promotion.name}@{promotion.alias}")
    registry.promote(promotion.name, promotion.version, promotion.alias)


def _describe(
    running: RunningEvaluation, plan: EvaluationPlan, result: GateResult, is_promoted: bool
) -> dict[str, object]:
    return {
        "evaluation": running.id,
        "set": {"name": plan.set_name, "version": plan.set_version, "digest": plan.set_digest},
        "runs": [
            {"model": one.name, "model_id": one.model_id, "run_id": run_id}
            for one, run_id in zip(plan.candidates, running.run_ids, strict=True)
        ],
        **describe_result(result),
        "promoted": is_promoted,
    }


def _serialize_rows(plan: EvaluationPlan, answers: list[list[EvaluatedAnswer]]) -> bytes:
    rows = [
        {"model": one.name, **row}
        for one, of_model in zip(plan.candidates, answers, strict=True)
        for row in build_table(of_model)
    ]
    return "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows).encode()


def _write(file: Path, content: bytes) -> None:
    try:
        file.write_bytes(content)
    except OSError as error:
        raise UserError("not_writable", folder=str(file)) from error
