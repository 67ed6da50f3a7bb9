"""Ask the sides of a comparison, each with its own settings and history."""

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from phi3_ui.chat.comparison import RoundPlace
from phi3_ui.chat.conversation import TurnRequest
from phi3_ui.chat.presets import PARAM_PRESETS
from phi3_ui.chat.running_turn import RunningTurn
from phi3_ui.chat.sampling_params import parse_params
from phi3_ui.chat.surrogates import replace_surrogates
from phi3_ui.errors import UserError
from phi3_ui.i18n.translate import tr
from phi3_ui.remote_servers import REMOTE_PREFIX
from phi3_ui.store.registry.cards import ModelEntry
from phi3_ui.ui.comparison_state import AskedRound, Comparison, Contestant
from phi3_ui.ui.handlers.answers import AddTurn, AnswerStarter
from phi3_ui.ui.services import Services
from phi3_ui.ui.sessions import Session

logger = logging.getLogger(__name__)

PRESETS = {preset.name: preset.values for preset in PARAM_PRESETS}
"""The values of the sampling parameters by the preset's name."""


@dataclass(frozen=True)
class PreparedSide:
    """A model, and its request without the question."""

    entry: ModelEntry
    request: TurnRequest


class RoundRunner:
    """Runs rounds to their end, each in its own thread."""

    def __init__(self, services: Services, starter: AnswerStarter) -> None:
        self._settings = services.settings
        self._find = services.models.find
        self._history = services.conversations.history
        self._starter = starter

    def is_parallel(self, comparison: Comparison) -> bool:
        """Whether all sides can answer concurrently."""
        models = len({one.model_id for one in comparison.contestants if not one.model_id.startswith(REMOTE_PREFIX)})
        limit = self._settings.answers_at_once
        return models <= self._settings.max_loaded_models and (not limit or len(comparison.contestants) <= limit)

    def prepare(self, session: Session, contestant: Contestant, values: Mapping[str, Any]) -> PreparedSide:
        """Prepare the request to a side; `values` are the page's settings. Parameters that its model does not support are left out.

        Raises:
            UserError: message_too_long, model_gone, store_unreachable, invalid_param, bad_seed.
        """
        entry = self._find(contestant.model_id)
        params = parse_params({**values, **PRESETS.get(contestant.preset, {})}, set(entry.supported_params))
        shared = replace_surrogates(str(values.get("system") or ""))
        system = contestant.system if contestant.system.strip() else shared
        if len(system) > (limit := self._settings.max_message_characters):
            raise UserError("message_too_long", count=limit)
        return PreparedSide(
            entry, TurnRequest(time.time(), entry.model_id, system, params, session.model.get_template(entry))
        )

    def start(self, session: Session, comparison: Comparison, asked: AskedRound, sides: Sequence[PreparedSide]) -> None:
        """Ask all sides in the background; the comparison tells when the round has ended."""
        threading.Thread(
            target=self._run, args=(session, comparison, asked, sides), name="comparison", daemon=True
        ).start()

    def _run(self, session: Session, comparison: Comparison, asked: AskedRound, sides: Sequence[PreparedSide]) -> None:
        error: UserError | None = None
        running = list[RunningTurn]()
        try:
            self._ask_all(session, comparison, asked, sides, running)
        except UserError as raised:
            error = raised
        except Exception as raised:
            logger.exception("A comparison failed")
            error = UserError("unexpected", detail=type(raised).__name__)
        finally:
            if error:
                comparison.stop()
            for turn in running:
                turn.wait()
            comparison.finish(error)

    def _ask_all(
        self,
        session: Session,
        comparison: Comparison,
        asked: AskedRound,
        sides: Sequence[PreparedSide],
        running: list[RunningTurn],
    ) -> None:
        """Ask all sides, concurrently or one after another, until the comparison is stopped. Their turns are added to `running`."""
        is_parallel = self.is_parallel(comparison)
        # Not from left to right: the model that is loaded first would reveal its place.
        for position, side in enumerate(sides):
            if comparison.is_stopped():
                return
            chat = comparison.chats[position]
            add_turn = _ask_at_place(asked, position, side.request)
            is_first = position == 0  # the user asked only once
            if (started := self._starter.start(session, chat, side.entry, add_turn, counts_question=is_first)) is None:
                return
            running.append(started[0])
            if comparison.is_stopped(position):  # perhaps before the turn was reserved
                chat.stop()
            if is_first and len(comparison.rounds) == 1:
                title = tr(session.language, "compare.title", title=chat.conversation.title)
                self._history.rename(session.user_id, comparison.id, title)
            if not is_parallel:
                started[0].wait()


def _ask_at_place(asked: AskedRound, position: int, request: TurnRequest) -> AddTurn:
    place = RoundPlace(asked.id, asked.places.index(position), len(asked.places), asked.is_blind)
    placed = replace(request, asked_at=time.time(), round=place)
    return lambda conversation: conversation.with_question(asked.question, placed)
