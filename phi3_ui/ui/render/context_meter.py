"""How much of the model's context the conversation fills."""

from markupsafe import Markup

from phi3_ui.chat.conversation import Conversation
from phi3_ui.i18n.translate import tr
from phi3_ui.store.registry.cards import ModelEntry
from phi3_ui.ui.render.templating import render

_LINE = Markup('<p class="phi3-context">{}</p>')


def render_context_meter(language: str, entry: ModelEntry | None, conversation: Conversation) -> Markup:
    """The tokens that the last answer took, as a bar and as text; without a model, an empty line, so that the layout does not shift."""
    answer = conversation.last_answer
    context = answer.context if answer else None
    limit = context.limit if context else entry.context_length if entry else None
    if limit is None:
        return _LINE.format(tr(language, "context.unknown") if entry else "")
    used, label = 0, tr(language, "context.limit", count=limit)
    if context:
        completion = answer.usage.completion_tokens if answer and answer.usage else 0
        used = context.prompt_tokens + completion
        label = tr(language, "context.use", used=used, count=limit)
    degrades_after = entry.degrades_after if entry else None
    warns = degrades_after is not None and used > degrades_after
    return render(
        "context_meter.html",
        language,
        limit=limit,
        value=min(used, limit),
        label=label,
        mark=f"{degrades_after / limit:.3f}" if degrades_after else "",
        warning=tr(language, "context.degrades", count=degrades_after) if warns else "",
    )
