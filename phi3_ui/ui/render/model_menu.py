"""The models of the store, as data for static/models/menu.js: grouped by registered model, a row per model and alias."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import TypedDict

from phi3_ui.i18n.translate import format_bytes, tr
from phi3_ui.store.conversations.summaries import TurnMetrics
from phi3_ui.store.registry.cards import ModelEntry, RegisteredVersion
from phi3_ui.ui.render.labels import context_label, engine_name
from phi3_ui.ui.render.model_status import Chip

Versions = Mapping[str, Sequence[RegisteredVersion]]
"""The registered versions by model id."""

_RECENT = 20  # answers; their median is a model's speed


class Row(TypedDict):
    """One choice of the menu."""

    key: str
    """The key that the choice selects: a model id, or `name@alias`."""
    model: str
    """The id of the model that the key currently refers to."""
    name: str
    facts: list[str]
    created: str
    """When it was logged, in ISO 8601: the browser knows the user's time zone. Empty for an alias or a remote model."""
    chips: list[Chip]
    ready: str
    """Text of the row while the model is ready to answer."""


class Group(TypedDict):
    """The choices of one registered model."""

    name: str
    rows: list[Row]
    problem: str
    """Why the remote server of this name is unreachable; empty for all others."""


@dataclass(frozen=True)
class Problems:
    """Why models cannot be used."""

    refused: Collection[str] = ()
    """The ids of those that come with code, or for which no server is configured."""
    unreachable: Collection[str] = ()
    """The ids of those whose server is unreachable."""
    servers: Mapping[str, str] = field(default_factory=dict)
    """Why a remote server is unreachable, as a sentence, by its server_title."""


def server_title(name: str, host: str) -> str:
    """Return the title of a remote server's group."""
    return f"{name} · {host}"


def alias_keys(versions: Versions) -> list[str]:
    """Return the keys that follow an alias: `name@alias`."""
    return [f"{one.name}@{alias}" for of_model in versions.values() for one in of_model for alias in one.aliases]


def measure_speeds(metrics: Iterable[TurnMetrics]) -> dict[str, float]:
    """Return tokens per second by model id: the median over its last answers. `metrics` are oldest first."""
    rates: dict[str, list[float]] = {}
    for one in metrics:
        if one.model_id and one.tokens_per_second:
            rates.setdefault(one.model_id, []).append(one.tokens_per_second)
    return {model_id: median(found[-_RECENT:]) for model_id, found in rates.items()}


def describe_menu(
    language: str,
    entries: Sequence[ModelEntry],
    versions: Versions,
    problems: Problems = Problems(),
) -> list[Group]:
    """Return the groups in the order of their newest model; unregistered models come after them, remote servers last.

    An unreachable server is a group, even if none of its models is known.
    """
    groups: dict[str, list[Row]] = {}
    loose: list[Row] = []
    aliases: dict[str, list[Row]] = {}
    servers: dict[str, list[Row]] = {}
    for entry in entries:
        of_model = versions.get(entry.model_id, ())
        row = _row(language, entry, of_model)
        if problem := _find_problem(entry, problems):
            row["chips"].insert(0, {"text": tr(language, problem), "kind": "warn"})
        if entry.is_unlogged:
            server, _, row["name"] = entry.name.partition("/")
            servers.setdefault(server_title(server, entry.host or ""), []).append(row)
            continue
        if not of_model:
            loose.append(row)
            continue
        groups.setdefault(of_model[0].name, []).append(row)
        for version in of_model:
            found = [_alias_row(language, entry, version, alias) for alias in version.aliases]
            aliases.setdefault(version.name, []).extend(found)
    for name, rows in aliases.items():
        groups.setdefault(name, []).extend(rows)
    for title in problems.servers:
        servers.setdefault(title, [])
    shown: list[Group] = [{"name": name, "rows": rows, "problem": ""} for name, rows in groups.items()]
    if loose:
        title = tr(language, "models.unregistered") if groups or servers else ""
        shown.append({"name": title, "rows": loose, "problem": ""})
    shown.extend(
        {"name": name, "rows": rows, "problem": problems.servers.get(name, "")} for name, rows in servers.items()
    )
    return shown


def _find_problem(entry: ModelEntry, problems: Problems) -> str:
    """Return the text key of the warning on a model's row; empty if there is none."""
    if entry.model_id in problems.refused:
        return "remote.not_configured" if entry.is_remote else "trust.code"
    return "remote.unreachable" if entry.model_id in problems.unreachable else ""


def _row(language: str, entry: ModelEntry, versions: Sequence[RegisteredVersion]) -> Row:
    facts = [
        engine_name(language, entry),
        "" if entry.size_bytes is None else format_bytes(language, entry.size_bytes),
        context_label(language, entry.context_length) if entry.context_length else "",
    ]
    chips: list[Chip] = []
    for version in versions:
        chips.append({"text": f"v{version.version}", "kind": "plain"})
        chips.extend({"text": alias, "kind": "accent"} for alias in version.aliases)
    return {
        "key": entry.model_id,
        "model": entry.model_id,
        "name": entry.name,
        "facts": [fact for fact in facts if fact],
        "created": "" if entry.is_unlogged else entry.created.isoformat(),
        "chips": chips,
        "ready": tr(language, "models.reachable" if entry.is_remote else "models.loaded"),
    }


def _alias_row(language: str, entry: ModelEntry, version: RegisteredVersion, alias: str) -> Row:
    return {
        "key": f"{version.name}@{alias}",
        "model": entry.model_id,
        "name": f"@{alias}",
        "facts": [tr(language, "models.follows", version=version.version)],
        "created": "",
        "chips": [],
        "ready": tr(language, "models.reachable" if entry.is_remote else "models.loaded"),
    }
