"""Answers requests of the API, under the same limits as on the page, and recorded in the same store."""

import threading
import time
from collections.abc import Callable
from typing import Protocol

from phi3_ui.accounts.quotas import Quotas
from phi3_ui.api.callers import Caller
from phi3_ui.api.errors import ApiError
from phi3_ui.api.history import ApiHistory, Question
from phi3_ui.api.metrics import Metrics
from phi3_ui.api.models import Models
from phi3_ui.chat.chat_model import ChatModel
from phi3_ui.chat.conversation import Answer, TurnRequest
from phi3_ui.chat.running_turn import RunningTurn
from phi3_ui.chat.sampling_params import SAMPLING_PARAMS, parse_params
from phi3_ui.chat.token_use import count_used_tokens
from phi3_ui.chat.types import ChatRequest, GenerationParams
from phi3_ui.errors import UserError
from phi3_ui.i18n.translate import tr
from phi3_ui.settings import Settings
from phi3_ui.store.conversations.turn_writer import ConversationStore
from phi3_ui.store.registry.cards import ModelEntry

_RAW_PROMPT_CONTRACT = "prompt"


class Opener(Protocol):
    """Opens models, as a ModelSource does. Thread-safe."""

    def open(self, entry: ModelEntry) -> ChatModel:
        """Return the model, starting to load it if necessary. Raises UserError if it must not or cannot be loaded now."""
        ...


class Answering:
    """Starts answers. Thread-safe; methods block on the store and the disk."""

    def __init__(  # noqa: PLR0913  # the services it uses
        self,
        settings: Settings,
        models: Models,
        opener: Opener,
        conversations: ConversationStore,
        quotas: Quotas,
        metrics: Metrics,
    ) -> None:
        self._settings = settings
        self._models = models
        self._opener = opener
        self._quotas = quotas
        self.metrics = metrics
        self.history = ApiHistory(conversations)
        self._lock = threading.Lock()
        self._running = dict[RunningTurn, Callable[[Answer], None]]()
        self._closing = threading.Event()

    def check_limits(self, caller: Caller) -> None:
        """Raise UserError if a limit of the caller is reached. `start` checks again."""
        self._quotas.check(caller.person)

    def start(
        self, caller: Caller, question: Question, put: Callable[[str | Answer], None]
    ) -> tuple[ModelEntry, RunningTurn]:
        """Start an answer: `put` gets each piece of text and, once it is recorded, the answer.

        Raises:
            ApiError: The request is not valid for the model.
            UserError: The model does not exist, a parameter is out of range, a limit of the caller is reached, or the app is
                shutting down.
        """
        if self._closing.is_set():
            raise UserError("shutting_down")
        entry = self._models.find(question.model)
        params = self._check(entry, question)
        label = f"{entry.name} · {tr('en', f'engine.{entry.engine}')}"
        request = ChatRequest(
            question.messages,
            params,
            entry.template,
            self._settings.answer_seconds,
            question.raw_prompt,
            gpu_token=caller.gpu_token,
        )
        self._quotas.claim(caller.person)
        try:
            recorded = question.records and self.history.start_turn(
                caller, question, label, TurnRequest(time.time(), entry.model_id, "", params, entry.template)
            )
        except BaseException:
            self._quotas.release(caller.person)
            raise

        def finish(answer: Answer) -> None:
            self._quotas.release(caller.person, count_used_tokens(request, answer))
            self.metrics.observe(entry.name, answer)
            try:
                if recorded:
                    recorded.finish(answer)
            finally:
                with self._lock:
                    self._running.pop(turn, None)
                put(answer)

        def append_text(text: str) -> None:
            if recorded:
                recorded.append_text(text)
            put(text)

        turn = RunningTurn(request, label, lambda: self._opener.open(entry), finish, append_text)
        self.metrics.track(turn)
        with self._lock:
            self._running[turn] = put
        turn.start()
        if self._closing.is_set():
            self.stop_all(0)
        return entry, turn

    def stop_all(self, seconds: float) -> None:
        """Cancel every answer at shutdown, notifying the callers first, and wait up to `seconds` for each to be stored."""
        with self._lock:
            self._closing.set()
            running = dict(self._running)
        for turn, put in running.items():
            put(Answer(turn.model_name, "", error=("shutting_down", {})))
            turn.stop()
        for turn in running:
            turn.wait(seconds)

    def _check(self, entry: ModelEntry, question: Question) -> GenerationParams:
        characters = sum(len(message.content) for message in question.messages)
        if characters > self._settings.max_message_characters:
            sentence = str(UserError("message_too_long", count=self._settings.max_message_characters))
            raise ApiError(400, sentence, question.field, "message_too_long")
        if question.messages[-1].role != "user":
            sentence = f"{question.field}: the last message must have the role user."
            raise ApiError(400, sentence, question.field, "invalid_value")
        if question.raw_prompt is not None and entry.contract != _RAW_PROMPT_CONTRACT:
            sentence = f"{entry.name} accepts messages, not a prompt. Send them to /v1/chat/completions."
            raise ApiError(400, sentence, "model", "unsupported_model")
        params = parse_params(question.values)
        for param in SAMPLING_PARAMS:
            value = getattr(params, param.name)
            is_neutral = value in (None, (), param.default if "penalty" in param.name else None)
            if param.name not in entry.supported_params and not is_neutral:
                sentence = f"{entry.name} does not support {param.name}. Leave it out."
                raise ApiError(400, sentence, param.name, "unsupported_parameter")
        return parse_params(question.values, set(entry.supported_params))
