"""Pure: usage, model card, set-up state → the HTML of the side panels. All values are escaped here."""

from collections.abc import Iterable, Mapping
from html import escape

from phi3_ui.chat.conversation import Answer, Conversation
from phi3_ui.chat.types import CacheStats, StreamingMode, Usage
from phi3_ui.i18n.translate import tr, tr_error
from phi3_ui.provision.jobs import JobState
from phi3_ui.provision.recipes import BYTES
from phi3_ui.store.registry.catalogue import ModelCard, ModelEntry
from phi3_ui.store.registry.doctor import Diagnosis

Rows = Iterable[tuple[str, str]]

_NO_METER = '<p class="phi3-context"></p>'  # it keeps its place, so that the chat does not move


def picker_label(language: str, entry: ModelEntry) -> str:
    engine = tr(language, f"engine.{entry.engine}")
    return f"{entry.name} · {engine} · {entry.created:%Y-%m-%d %H:%M}"


def alias_label(language: str, name: str, alias: str, version: str) -> str:
    return tr(language, "picker.alias", name=name, alias=alias, version=version)


def answer_label(language: str, entry: ModelEntry) -> str:
    return f"{entry.name} · {tr(language, f'engine.{entry.engine}')}"


def usage_panel(language: str, conversation: Conversation) -> str:
    """A table of the last answer and of the conversation."""
    answer = conversation.last_answer
    if answer is None:
        return f'<p class="phi3-quiet">{escape(tr(language, "no_usage"))}</p>'
    head = "".join(f"<th>{escape(tr(language, key))}</th>" for key in ("column.answer", "column.conversation"))
    of_answer, of_all = _counts(language, answer.usage), _counts(language, conversation.total_usage)
    names = ("row.prompt", "row.completion", "row.total")
    rows = [(tr(language, name), one, all_) for name, one, all_ in zip(names, of_answer, of_all, strict=True)]
    rows.insert(
        1, (tr(language, "row.cached"), _cached(language, answer.usage), _cached(language, conversation.total_usage))
    )
    rows += [(name, figure, "") for name, figure in _answer_rows(language, answer)]
    body = "".join(f"<tr><th>{escape(n)}</th><td>{escape(a)}</td><td>{escape(b)}</td></tr>" for n, a, b in rows)
    return f'<table class="phi3-usage"><thead><tr><td></td>{head}</tr></thead><tbody>{body}</tbody></table>'


def _counts(language: str, usage: Usage | None) -> tuple[str, str, str]:
    if usage is None:
        unknown = tr(language, "unknown")
        return unknown, unknown, unknown
    return f"{usage.prompt_tokens:,}", f"{usage.completion_tokens:,}", f"{usage.total_tokens:,}"


def _cached(language: str, usage: Usage | None) -> str:
    return tr(language, "unknown") if usage is None or usage.cached_tokens is None else f"{usage.cached_tokens:,}"


def context_meter(language: str, entry: ModelEntry | None, conversation: Conversation) -> str:
    """How much of the context the conversation took with its last answer, as a bar and in words."""
    answer = conversation.last_answer
    use = answer.context if answer else None
    limit = use.limit if use else entry.context_length if entry else None
    if limit is None:
        return f'<p class="phi3-context">{escape(tr(language, "context.unknown"))}</p>' if entry else _NO_METER
    used = use.prompt_tokens + (answer.usage.completion_tokens if answer and answer.usage else 0) if use else 0
    words = tr(language, "context.use", used=f"{used:,}", limit=f"{limit:,}")
    if not use:
        words = tr(language, "context.limit", limit=f"{limit:,}")
    warned, warning = entry.degrades_after if entry else None, ""
    if warned and used > warned:
        warning = f' <span class="phi3-error">{escape(tr(language, "context.degrades", count=f"{warned:,}"))}</span>'
    mark = f' style="--mark: {warned / limit:.3f}"' if warned else ""
    bar = (
        f'<progress max="{limit}" value="{min(used, limit)}" aria-label="{escape(tr(language, "context"))}"></progress>'
    )
    return f'<p class="phi3-context"{mark}>{bar}<span>{escape(words)}{warning}</span></p>'


def _answer_rows(language: str, answer: Answer) -> Rows:
    unknown = tr(language, "unknown")
    first = answer.timings and answer.timings.time_to_first_token
    rate = answer.timings and answer.timings.tokens_per_second
    yield tr(language, "row.ttft"), unknown if first is None else f"{first:.2f} s"
    yield tr(language, "row.rate"), unknown if rate is None else f"{rate:.1f}"
    yield tr(language, "row.finish"), tr(language, f"finish.{answer.finish_reason or 'error'}")


def status_line(
    language: str, loading_seconds: float | None, delivery: StreamingMode | None, cache: CacheStats | None = None
) -> str:
    """Where the picked model stands: not loaded, loading for so long, or loaded, how its text arrives and what it keeps."""
    if delivery:
        words = f"{tr(language, 'status.loaded')} · {tr(language, f'delivery.{delivery}')}"
        kept = f'<p class="phi3-quiet">{escape(_cache(language, cache))}</p>' if cache else ""
        return f'<p class="phi3-status loaded">{escape(words)}</p>{kept}'
    if loading_seconds is not None:
        words = tr(language, "status.loading", seconds=int(loading_seconds))
        return f'<p class="phi3-status">{escape(words)}</p>'
    return f'<p class="phi3-status">{escape(tr(language, "status.none"))}</p>'


def _cache(language: str, cache: CacheStats) -> str:
    return tr(
        language,
        "cache",
        used=megabytes(cache.used_bytes),
        budget=megabytes(cache.budget_bytes),
        slots=cache.slots,
        hits=cache.hits,
        prompts=cache.hits + cache.misses,
    )


def problem(sentence: str) -> str:
    return f'<p class="phi3-error" role="alert">{escape(sentence)}</p>'


def note(sentence: str) -> str:
    return f'<p class="phi3-note">{escape(sentence)}</p>'


def card_panel(language: str, card: ModelCard | None, diagnosis: Diagnosis | None = None) -> str:
    """All that is known of the picked model and of the run that logged it, below its state of health."""
    if card is None:
        return f'<p class="phi3-quiet">{escape(tr(language, "no_card"))}</p>'

    def word(key: str, **values: object) -> str:
        return tr(language, f"card.{key}", **values)

    entry = card.entry
    facts = [
        (word("name"), entry.name),
        (word("title"), card.title),
        (word("id"), entry.model_id),
        (word("uri"), entry.uri),
        (word("flavor"), entry.flavor),
        (word("contract"), entry.contract),
        (word("size"), "" if entry.size_bytes is None else megabytes(entry.size_bytes)),
        (word("context"), "" if card.context_length is None else word("tokens", count=f"{card.context_length:,}")),
        (word("created"), f"{entry.created:%Y-%m-%d %H:%M} UTC"),
        (word("license"), card.license),
    ]
    sections = [_facts(facts)]
    signature = [(word(part), "\n".join(fields)) for part, fields in card.signature.items()]
    sections.append(_section(word("signature"), _facts(signature)))
    if card.run is None:
        sections.append(_section(word("run"), f'<p class="phi3-quiet">{escape(word("no_run"))}</p>'))
    else:
        run = card.run
        about = [
            (word("run_name"), run.name),
            (word("run_id"), run.run_id),
            (word("experiment"), run.experiment),
            (word("status"), run.status),
        ]
        sections.append(_section(word("run"), _facts(about)))
        sections.append(_section(word("run_params"), _facts(sorted(run.params.items()))))
        metrics = {name: f"{value:,.4g}" if value < 1e6 else f"{value:,.0f}" for name, value in run.metrics.items()}
        sections.append(_section(word("run_metrics"), _facts(sorted(metrics.items()))))
        sections.append(_section(word("run_tags"), _facts(sorted(run.tags.items()))))
    sections.append(_section(word("versions"), _versions(language, card)))
    return f'<div class="phi3-card">{_health(language, diagnosis) if diagnosis else ""}{"".join(sections)}</div>'


def _health(language: str, diagnosis: Diagnosis) -> str:
    """A badge: healthy in one line, or each thing that is not, with its cure."""
    if diagnosis.severity == "ok":
        return f'<p class="phi3-health ok">{escape(tr(language, "doctor.healthy"))}</p>'
    shown = [finding for finding in diagnosis.findings if finding.severity != "ok"]
    lines = [tr(language, f"doctor.{finding.code}", **finding.values) for finding in shown]
    return "".join(f'<p class="phi3-health {f.severity}">{escape(w)}</p>' for f, w in zip(shown, lines, strict=True))


def _versions(language: str, card: ModelCard) -> str:
    if not card.versions:
        return f'<p class="phi3-quiet">{escape(tr(language, "card.no_versions"))}</p>'
    rows = {v.name: "" for v in card.versions}
    for version in card.versions:
        aliases = "".join(f" @{alias}" for alias in version.aliases)
        line = tr(language, "card.version", version=version.version) + aliases
        rows[version.name] = "\n".join(filter(None, [rows[version.name], line]))
    return _facts(rows.items())


def _section(title: str, body: str) -> str:
    return f"<details open><summary>{escape(title)}</summary>{body}</details>"


def _facts(rows: Rows | Mapping[str, str]) -> str:
    pairs = rows.items() if isinstance(rows, Mapping) else rows
    shown = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in pairs if value)
    return f"<dl>{shown}</dl>"


def megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"


def setup_panel(language: str, state: JobState) -> str:
    """The first run's step and progress, or its error with the cure; a note of one line once a model can be chatted with."""
    failed = ""
    if state.error:
        failed = problem(f"{tr(language, 'setup.failed')} {tr_error(language, state.error)}")
    if state.is_usable:
        text = f"{tr(language, 'setup.usable')} {_step_text(language, state)}".strip()
        note = f'<p class="phi3-quiet">{escape(text)}</p>'
        return f'<div class="phi3-setup-note">{failed or note}</div>'
    if state.phase in ("checking", "waiting") and state.stage is None:
        return f'<div class="phi3-setup"><p>{escape(tr(language, f"setup.{state.phase}"))}</p></div>'
    title, why = escape(tr(language, "setup.title")), escape(tr(language, "setup.why"))
    head = f'<h2>{title}</h2><p class="phi3-quiet">{why}</p>'
    return f'<div class="phi3-setup">{head}{_progress(language, state)}{failed}</div>'


def job_panel(language: str, state: JobState | None, name: str) -> str:
    """The model that is being added, in words and one bar; how it ended, if it has. Empty if none is."""
    if state is None:
        return ""
    if state.phase == "done":
        return f'<p class="phi3-status loaded">{escape(tr(language, "add.done", name=name))}</p>'
    if state.error:
        return problem(tr_error(language, state.error))
    words = "" if state.stage else f"<p>{escape(tr(language, f'setup.{state.phase}'))}</p>"
    return f'<div class="phi3-job"><p><b>{escape(name)}</b></p>{words}{_progress(language, state)}</div>'


def _progress(language: str, state: JobState) -> str:
    """The stage under way, how far it is, and one bar for all stages."""
    percent = int(100 * state.fraction)
    text = _step_text(language, state)
    words = f"<p>{escape(text)}</p>" if text else ""
    bar = f'<progress max="100" value="{percent}" aria-label="{escape(tr(language, "setup.title"))}"></progress>'
    return words + bar


def _step_text(language: str, state: JobState) -> str:
    """The current step, its number and how much is done; empty before the first."""
    if not state.stage:
        return ""
    step = tr(language, "setup.step", step=state.step + 1, steps=len(state.stages))
    amount = ""
    if state.stage in BYTES and state.total:
        done, total = megabytes(state.done), megabytes(state.total)
        amount = " · " + tr(language, "setup.bytes", done=done, total=total)
    return f"{step} · {tr(language, f'setup.{state.stage}')}{amount} · {int(100 * state.fraction)} %"
