"""The context meter: how much of the selected model's context is filled by the chat and the draft."""

import gradio as gr

from phi3_ui.chat.conversation import Conversation
from phi3_ui.chat.draft import AttachedFile, ContextFill, Draft, estimate_fill, fill_from_answer, fill_from_counts
from phi3_ui.sources.model_source import ModelSource
from phi3_ui.store.registry.cards import ModelEntry
from phi3_ui.ui.handlers.event_fields import read_fields
from phi3_ui.ui.handlers.file_tokens import FileTokens
from phi3_ui.ui.page.components import Page, Updates
from phi3_ui.ui.render.context_meter import describe_files, render_context_meter
from phi3_ui.ui.sessions import Session

MAX_DRAFT = 4_000_000
"""Characters of all texts of a draft, which contains its files twice. Each page keeps one draft."""
_MAX_COUNTED = (
    2_000_000  # characters of all prompts: counting more takes the model's process seconds, at each pause in typing
)
_MAX_FILES = 20


class ContextMeter:
    """Counts tokens with the model's own tokenizer, in its process, while it is loaded and idle; otherwise estimates."""

    def __init__(self, page: Page, models: ModelSource) -> None:
        self._page = page
        self._models = models
        self.file_tokens = FileTokens(models)

    def draw(self, session: Session) -> Updates:
        """Draw the meter for the shown chat and the last known content of the composer.

        While a selected model is being looked up, the meter stays: ModelPicker.pick draws it once the model is found, and an
        empty one computed before could reach the page after it.
        """
        if session.model.key and not session.model.entry:
            return {self._page.composer.context: gr.skip()}
        fill, draft = self._fill(session), session.draft
        files = describe_files(session.language, fill, [(file.id, file.name) for file in draft.files])
        if refused := [file for index, file in enumerate(draft.files) if fill.is_too_long(index)]:
            session.replace_draft(draft, draft.without(refused))  # as the page does when it learns of it
            fill = self._fill(session)
        meter = render_context_meter(session.language, session.model.entry, fill, session.current.conversation, files)
        return {self._page.composer.context: meter}

    def set_draft(self, session: Session, system: str, event: gr.EventData) -> Updates:
        """Count the composer's current content, which `read_draft` gets from the browser."""
        session.set_draft(read_draft(system, event))
        return self.draw(session)

    def _fill(self, session: Session) -> ContextFill:
        draft, conversation, entry = session.draft, session.current.conversation, session.model.entry
        return self.count(draft, conversation, entry, session.model.get_template(entry) if entry else None)

    def count(
        self, draft: Draft, conversation: Conversation, entry: ModelEntry | None, template: str | None
    ) -> ContextFill:
        """Return what a model's context would hold; an estimate without an entry."""
        limit = entry.context_length if entry else None
        if not draft.text.strip() and (pending := conversation.pending):
            system = pending.request.system if pending.request else ""
            return estimate_fill(Draft(pending.question, system=system), conversation.without_last_turn(), limit)
        has_new_system = bool(draft.system.strip()) and conversation.last_answer is None
        if not (draft.text.strip() or has_new_system) and (last := fill_from_answer(conversation, limit)):
            return last
        prompts = draft.build_prompts(conversation)
        is_short = sum(len(message.content) for prompt in prompts for message in prompt) <= _MAX_COUNTED
        counts = self._models.count_tokens(entry, prompts, template) if entry and is_short else None
        if not (entry and counts):
            return estimate_fill(draft, conversation, limit)
        fill = fill_from_counts(counts, limit)
        self.file_tokens.note(entry.model_id, template, [file.text for file in draft.files], fill.file_tokens)
        return fill


def read_draft(system: str, event: gr.EventData) -> Draft:
    """Return a composer's content from the browser: `text` and `files`, each with `id`, `name` and `text`; empty if it is too large."""
    data = read_fields(event)
    text, files = data.get("text"), data.get("files")
    attached = [
        AttachedFile(*(str(file.get(key) or "") for key in ("id", "name", "text")))
        for file in (files if isinstance(files, list) else [])[:_MAX_FILES]
        if isinstance(file, dict)
    ]
    system, text = system or "", text if isinstance(text, str) else ""
    if (
        sum(map(len, (system, text, *(part for file in attached for part in (file.id, file.name, file.text)))))
        > MAX_DRAFT
    ):
        return Draft()
    return Draft(text, tuple(attached), system)
