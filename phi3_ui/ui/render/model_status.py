"""Whether the selected model is loaded, how it streams, and what its prompt cache holds."""

from markupsafe import Markup

from phi3_ui.chat.types import CacheStats, StreamingMode
from phi3_ui.i18n.translate import format_megabytes, tr
from phi3_ui.ui.render.notices import render_hint

_STATUS = Markup('<p class="phi3-status{}">{}</p>')


def render_status(
    language: str, loading_seconds: float | None, mode: StreamingMode | None, cache: CacheStats | None = None
) -> Markup:
    """`loading_seconds` is set while the model loads, `mode` once it is loaded."""
    if mode:
        label = f"{tr(language, 'status.loaded')} · {tr(language, f'delivery.{mode}')}"
        return _STATUS.format(" loaded", label) + (_render_cache(language, cache) if cache else "")
    if loading_seconds is not None:
        return _STATUS.format("", tr(language, "status.loading", seconds=int(loading_seconds)))
    return _STATUS.format("", tr(language, "status.none"))


def _render_cache(language: str, cache: CacheStats) -> Markup:
    return render_hint(
        tr(
            language,
            "cache",
            used=format_megabytes(language, cache.used_bytes),
            budget=format_megabytes(language, cache.budget_bytes),
            slots=cache.slots,
            hits=cache.hits,
            prompts=cache.hits + cache.misses,
        )
    )
