"""The state of the selected model, as data for static/models/button.js, and its prompt cache."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypedDict

from markupsafe import Markup

from phi3_ui.chat.types import Batching, CacheStats
from phi3_ui.i18n.translate import format_bytes, format_number, tr
from phi3_ui.sources.model_source import CLOSED, OpenState
from phi3_ui.store.registry.cards import ModelEntry, RegisteredVersion
from phi3_ui.ui.render.labels import context_label, engine_name, short_name, speed_label, version_label
from phi3_ui.ui.render.templating import render

State = Literal["none", "loading", "loaded"]


class Chip(TypedDict):
    """A short fact beside the model's name."""

    text: str
    kind: Literal["plain", "accent", "warn"]


class ModelStatus(TypedDict):
    """What the header shows about the selected model. Empty texts are not shown."""

    name: str
    engine: str
    chips: list[Chip]
    state: State
    label: str
    """The state as text."""
    error: str
    """Why the model cannot be used, as a sentence."""
    loaded: list[str]
    """The ids of all loaded models."""
    speeds: dict[str, str]
    """By model id, for models that have answered. Here and not in the menu, since every answer changes them."""


@dataclass(frozen=True)
class Selected:
    """The selected model."""

    entry: ModelEntry
    version: RegisteredVersion | None = None
    """The registered version that it was picked as."""


@dataclass(frozen=True)
class ModelStates:
    """State of all models that changes while users chat."""

    loaded: Sequence[str] = ()
    """Ids."""
    speeds: Mapping[str, float] = field(default_factory=dict)
    """Tokens per second by id, measured on this machine."""


def describe_status(
    language: str,
    selected: Selected | None,
    states: ModelStates = ModelStates(),
    state: OpenState = CLOSED,
    error: str = "",
) -> ModelStatus:
    """Describe the selected model's status; `state` is its state, `error` is why it cannot be used."""
    name, label = _describe_state(language, state, is_remote=bool(selected and selected.entry.is_remote))
    if error and selected and selected.entry.is_remote:
        name, label = "none", tr(language, "status.unreachable")
    return {
        "name": short_name(selected.entry) if selected else "",
        "engine": engine_name(language, selected.entry) if selected else "",
        "chips": _chips(language, selected, states.speeds.get(selected.entry.model_id)) if selected else [],
        "state": name,
        "label": label,
        "error": error,
        "loaded": list(states.loaded),
        "speeds": {model_id: speed_label(language, speed) for model_id, speed in states.speeds.items()},
    }


def _describe_state(language: str, state: OpenState, *, is_remote: bool) -> tuple[State, str]:
    if state.phase == "loading":
        return "loading", tr(language, "status.loading", seconds=int(state.seconds))
    if state.phase == "ready":
        label = tr(language, "status.reachable" if is_remote else "status.loaded")
        return "loaded", f"{label} · {tr(language, f'delivery.{state.streaming}')}"
    return "none", tr(language, "status.unseen" if is_remote else "status.none")


def _chips(language: str, selected: Selected, speed: float | None) -> list[Chip]:
    chips: list[Chip] = []
    if selected.version:
        chips.append({"text": version_label(selected.version), "kind": "accent"})
    if host := selected.entry.host:
        chips.append({"text": host, "kind": "warn" if selected.entry.is_elsewhere else "plain"})
    if selected.entry.context_length:
        chips.append({"text": context_label(language, selected.entry.context_length), "kind": "plain"})
    if speed:
        chips.append({"text": tr(language, "models.here", speed=speed_label(language, speed)), "kind": "plain"})
    return chips


def describe_batching(language: str, batching: Batching | None) -> tuple[str, str]:
    """Return whether a model computes several answers in one step, as a short label, and why. Empty if unknown."""
    if batching is None:
        return "", ""
    if not batching.reason:
        return tr(language, "batching.batched"), tr(language, "batching.batched.why")
    why = tr(language, f"batching.{batching.reason}", detail=batching.detail)
    return tr(language, "batching.single"), why


def render_cache(language: str, cache: CacheStats | None, batching: Batching | None = None) -> Markup:
    """Render how the selected model computes concurrent answers, and its prompt cache; empty if neither is known."""
    if cache is None and batching is None:
        return Markup("")
    mode, why = describe_batching(language, batching)
    figures = None
    if cache is not None:
        figures = {
            "used": format_bytes(language, cache.used_bytes),
            "budget": format_bytes(language, cache.budget_bytes),
            "chats": str(cache.slots),
            "hits": format_number(language, cache.hits),
            "prompts": format_number(language, cache.hits + cache.misses),
        }
    return render("prompt_cache.html", language, mode=mode, why=why, cache=figures)
