"""An import as data for static/import.js."""

from typing import Any

from phi3_ui.errors import UserError
from phi3_ui.i18n.translate import tr, tr_error
from phi3_ui.ui.imports import ImportState

_MAX_SHOWN = 200


def render_import(language: str, state: ImportState) -> dict[str, Any]:
    """Return texts in `language` as `title`, `detail` and `reasons`, and `fraction` while the import runs, else None."""
    reasons = [reason.render(language) for reason in state.reasons[:_MAX_SHOWN]]
    if (more := state.refused - len(reasons)) > 0:
        reasons.append(tr(language, "import.more", count=more))
    done = tr(language, "import.done", count=state.chats)
    if state.turns:
        done = f"{done} {tr(language, 'import.turns', count=state.turns)}"
    if not state.is_finished:
        fraction = state.position / state.size if state.size else 0.0
        return {"title": tr(language, "import.running"), "detail": done, "fraction": fraction, "reasons": reasons}
    if state.refused and not state.chats and not state.is_cancelled:
        title = tr_error(language, UserError("invalid_chat_file", detail=reasons[0][:300]))
        return {"title": title, "detail": "", "fraction": None, "reasons": reasons[1:]}
    details = [tr(language, "import.cancelled")] if state.is_cancelled else []
    if state.refused:
        details.append(tr(language, "import.refused", count=state.refused))
    return {"title": done, "detail": " ".join(details), "fraction": None, "reasons": reasons}
