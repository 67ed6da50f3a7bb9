"""The context meter of a comparison: how much of the context a question would fill, for the fullest side."""

from collections.abc import Callable, Iterator

import gradio as gr

from phi3_ui.chat.conversation import Conversation
from phi3_ui.chat.draft import ContextFill, Draft, estimate_from_texts
from phi3_ui.errors import UserError
from phi3_ui.store.registry.cards import ModelEntry
from phi3_ui.ui.comparison_state import MAX_SIDES, Comparison, Contestant
from phi3_ui.ui.handlers.compare import parse_contestant
from phi3_ui.ui.handlers.context_meter import ContextMeter, read_draft
from phi3_ui.ui.handlers.event_fields import read_fields
from phi3_ui.ui.page.components import Page, Updates
from phi3_ui.ui.render.context_meter import describe_files, render_context_meter
from phi3_ui.ui.render.remote_notice import render_remote_sides
from phi3_ui.ui.services import Services
from phi3_ui.ui.sessions import Session


class CompareMeter:
    """Counts the draft of the comparison's composer."""

    def __init__(
        self, page: Page, services: Services, meter: ContextMeter, session: Callable[[gr.Request], Session]
    ) -> None:
        self._page = page
        self._find = services.models.find
        self._history = services.conversations.history
        self._meter = meter
        self._session = session

    def count_draft(self, system: str, request: gr.Request, event: gr.EventData) -> Updates:
        """Draw the meter for `text`, `files` and `sides` from the browser; `system` is the page's system prompt."""
        session, draft, sides = self._session(request), read_draft(system, event), read_fields(event).get("sides")
        try:
            contestants = tuple(map(parse_contestant, sides if isinstance(sides, list) else []))[:MAX_SIDES]
            entries = [self._find(one.model_id) for one in contestants]
        except UserError:  # asking the question would raise it, too
            return {self._page.compare.meter: ""}
        comparison = session.comparison
        if comparison and comparison.is_running:  # an answer may already be longer than shown
            return {self._page.compare.meter: gr.skip()}
        if comparison and comparison.contestants != contestants:
            comparison = None  # a new one will begin
        shown = comparison.chats[0].conversation if comparison else Conversation()
        entry, fill = self._find_fullest(session, draft, comparison, list(zip(contestants, entries, strict=True)))
        files = describe_files(session.language, fill, [(file.id, file.name) for file in draft.files])
        meter = render_context_meter(session.language, entry, fill, shown, files, is_blind=entry is None)
        now = session.comparison
        if now and now.is_running:  # a round has begun meanwhile, and may hide the model that the meter names
            return {self._page.compare.meter: gr.skip()}
        return {self._page.compare.meter: meter + render_remote_sides(session.language, entries)}

    def _find_fullest(
        self, session: Session, draft: Draft, comparison: Comparison | None, sides: list[tuple[Contestant, ModelEntry]]
    ) -> tuple[ModelEntry | None, ContextFill]:
        """Return the fill of the fullest side, with its model.

        While a round hides its models, exact counts from a model's tokenizer or context length would reveal whose answer it is:
        then the longest texts are estimated, against the smallest context.
        """
        if comparison and self._is_blind(session, comparison):
            limits = [entry.context_length for _, entry in sides if entry.context_length]
            fills = [fill for _, fill in self._estimate(draft, comparison, sides, min(limits, default=None))]
            return None, max(fills, key=lambda fill: fill.used)
        counted = list(self._count(session, draft, comparison, sides))
        return max(counted, key=lambda one: _measure_share(one[1]), default=(None, ContextFill(0, None)))

    def _is_blind(self, session: Session, comparison: Comparison) -> bool:
        return comparison.has_hidden_round(self._history.list_verdicts(session.user_id, comparison.id))

    @staticmethod
    def _estimate(
        draft: Draft, comparison: Comparison, sides: list[tuple[Contestant, ModelEntry]], limit: int | None
    ) -> Iterator[tuple[ModelEntry, ContextFill]]:
        for (contestant, entry), chat in zip(sides, comparison.chats, strict=True):
            yield entry, estimate_from_texts(_for_side(draft, contestant), chat.conversation, limit)

    def _count(
        self,
        session: Session,
        draft: Draft,
        comparison: Comparison | None,
        sides: list[tuple[Contestant, ModelEntry]],
    ) -> Iterator[tuple[ModelEntry, ContextFill]]:
        for position, (contestant, entry) in enumerate(sides):
            conversation = Conversation()
            if comparison:
                conversation = (
                    comparison.origin.history if comparison.origin else comparison.chats[position].conversation
                )
            template = session.model.get_template(entry)
            yield entry, self._meter.count(_for_side(draft, contestant), conversation, entry, template)


def _measure_share(fill: ContextFill) -> float:
    return fill.used / fill.limit if fill.limit else -1.0  # unknown


def _for_side(draft: Draft, contestant: Contestant) -> Draft:
    return Draft(draft.text, draft.files, contestant.system if contestant.system.strip() else draft.system)
