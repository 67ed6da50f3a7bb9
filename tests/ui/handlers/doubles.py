"""Test doubles for the handlers' collaborators: components, the store, the catalogue and a model that waits for the test."""

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

from phi3_ui.accounts.quotas import Quotas
from phi3_ui.api.metrics import Metrics
from phi3_ui.chat.comparison import Verdict
from phi3_ui.chat.conversation import Answer, Conversation, Feedback
from phi3_ui.chat.sampling_params import SAMPLING_PARAMS
from phi3_ui.chat.types import AnswerEvent, CancelToken, ChatRequest, Completed, TextDelta, Timings
from phi3_ui.provision.jobs import JobState
from phi3_ui.settings import Settings
from phi3_ui.sources.all_models import AllModels
from phi3_ui.sources.store_source import StoreSource
from phi3_ui.store.conversations.operations import VoteRecord
from phi3_ui.store.conversations.votes import StoredVote
from phi3_ui.store.registry.cards import ModelEntry
from phi3_ui.ui.handlers.answers import AnswerController, AnswerStarter
from phi3_ui.ui.handlers.conversations import ConversationController
from phi3_ui.ui.handlers.model_picker import ModelPicker
from phi3_ui.ui.open_pages import OpenPages
from phi3_ui.ui.page.components import Page
from phi3_ui.ui.services import Services

TIMEOUT = 30
SUPPORTED = ("temperature", "max_tokens")
ENTRY = ModelEntry(
    "demo", "m-1", "", "chat", "", "python", datetime.now(UTC), None, None, None, "", supported_params=SUPPORTED
)


class Components:
    """A page whose components are created on first use."""

    def __init__(self, name: str = "page") -> None:
        self._name = name

    def __getattr__(self, name: str) -> "Components":
        component = Components(f"{self._name}.{name}")
        setattr(self, name, component)
        return component

    def __repr__(self) -> str:
        return self._name


class Gate:
    """A point at which a thread waits until the test lets it pass; open at first."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self._open = threading.Event()
        self._open.set()

    def close(self) -> None:
        self._open.clear()

    def open(self) -> None:
        self._open.set()

    def wait(self) -> None:
        self.reached.set()
        assert self._open.wait(TIMEOUT)


class Model:
    """Answers "Hello", once its gate is open or it is cancelled."""

    def __init__(self) -> None:
        self.gate = Gate()
        self.requests: list[ChatRequest] = []

    def answer(self, request: ChatRequest, cancel: CancelToken) -> Iterator[AnswerEvent]:
        self.requests.append(request)
        yield TextDelta("Hel")
        cancel.on_set(self.gate.open)
        self.gate.wait()
        yield Completed("Hello", None, Timings(None, 0.1, None), "cancelled" if cancel.is_set() else "stop")


class History:
    """Conversations by id; a load waits at a gate after it has read."""

    def __init__(self) -> None:
        self.stored: dict[str, Conversation] = {}
        self.deleted: set[str] = set()
        self.votes: list[VoteRecord] = []
        self.own_votes: list[StoredVote] = []
        self._lock = threading.Lock()
        self.loading = Gate()

    def load(self, user_id: str, chat_id: str) -> Conversation:
        conversation = self.stored[chat_id]
        self.loading.wait()
        return conversation

    def list_conversations(self, user_id: str, query: str = "") -> list[Any]:
        return []

    def list_turn_metrics(self, user_id: str) -> list[Any]:
        return []

    def list_votes(self, user_id: str) -> list[StoredVote]:
        return self.own_votes

    def count_unreadable(self, user_id: str, chat_id: str | None = None) -> int:
        return 0

    def get_title(self, user_id: str, chat_id: str) -> str:
        return "title"

    def is_deleted(self, user_id: str, chat_id: str) -> bool:
        return chat_id in self.deleted

    def list_verdicts(self, user_id: str, chat_id: str) -> dict[str, Verdict]:
        found = dict[str, Verdict]()
        for vote in self.votes:
            found |= vote.list_verdicts()
        return found

    def vote(self, vote: VoteRecord) -> bool:
        with self._lock:
            is_new = not set(vote.turn_ids) & self.list_verdicts("", "").keys()
            if is_new:
                self.votes.append(vote)
            return is_new

    def delete(self, user_id: str, chat_id: str) -> None:
        self.deleted.add(chat_id)

    def rename(self, user_id: str, chat_id: str, title: str) -> None:
        pass

    def save_shown_branch(self, user_id: str, chat_id: str, shown: Conversation) -> None:
        pass


class Writer:
    def __init__(self, answers: list[Answer]) -> None:
        self._answers = answers

    def append_text(self, piece: str) -> None:
        pass

    def finish(self, answer: Answer) -> None:
        self._answers.append(answer)


class Store:
    """Records what is stored; `on_start` runs while a turn is being started."""

    def __init__(self) -> None:
        self.history = History()
        self.recorder = SimpleNamespace(warning=None, set_feedback=self._set_feedback)
        self.questions: list[str] = []
        self.answers: list[Answer] = []
        self.feedback: list[Feedback | None] = []
        self.on_start: Callable[[], object] = lambda: None

    def start_turn(self, user_id: str, chat_id: str, conversation: Conversation, model: str) -> Writer:
        self.on_start()
        self.questions.append(conversation.turns[-1].question)
        return Writer(self.answers)

    def _set_feedback(self, user_id: str, chat_id: str, turn_id: str, feedback: Feedback | None) -> None:
        self.feedback.append(feedback)


class Catalogue:
    """Finds ENTRY, in all threads at the same time if there is a barrier."""

    def __init__(self) -> None:
        self.barrier: threading.Barrier | None = None

    def find(self, key: str | None) -> ModelEntry:
        if self.barrier:
            self.barrier.wait(TIMEOUT)
        return ENTRY

    def list_models(self) -> list[ModelEntry]:
        return [ENTRY]

    def list_versions(self) -> dict[str, Any]:
        return {}


class App:
    """The handlers with their test doubles, and one page's session."""

    def __init__(self, **limits: str) -> None:
        """`limits` are settings by environment variable: those of Quotas and the length of messages."""
        self.page = cast(Page, Components())
        cast(Any, self.page).settings.controls = {param.name: Components(param.name) for param in SAMPLING_PARAMS}
        self.store, self.catalogue, self.model, self.pages = Store(), Catalogue(), Model(), OpenPages(grace_seconds=0)
        self.services = cast(
            Services,
            SimpleNamespace(
                settings=SimpleNamespace(
                    answer_seconds=None,
                    max_message_characters=Settings.read(limits).max_message_characters,
                    max_loaded_models=2,
                    answers_at_once=0,
                    is_single_user=False,
                    manage=False,
                ),
                catalogue=self.catalogue,
                admission=SimpleNamespace(require=lambda _entry: None, is_loadable=lambda _entry: True),
                pool=SimpleNamespace(
                    peek=lambda _id: None, list_loaded=list, measure_memory=lambda: {"m-1": 93_000_000}
                ),
                models=None,
                conversations=self.store,
                prompt_sets=SimpleNamespace(list_sets=list),
                locator=SimpleNamespace(notice=None, locate=lambda: None),
                metrics=Metrics(),
                quotas=Quotas(Settings.read(limits)),
                pages=self.pages,
                first_run=SimpleNamespace(
                    state=JobState(),
                    start=lambda: None,
                    title="SmolLM2",
                    read_log=lambda: "",
                    estimate_seconds_left=lambda: None,
                ),
                mlflow=SimpleNamespace(
                    link_experiment=lambda: None, link_turn=lambda *_: None, render_chat_link=lambda *_: "", base=None
                ),
            ),
        )
        cast(Any, self.services).models = self._create_models()
        self.models = ModelPicker(self.page, self.services, lambda _request: self.session)
        self.conversations = ConversationController(self.page, self.services, self.models)
        self.starter = AnswerStarter(self.services)
        self.answers = AnswerController(self.page, self.services, self.models, self.conversations, self.starter)
        self.session = self.pages.get("page", "en")

    def _create_models(self) -> AllModels:
        services = self.services
        store = StoreSource(services.settings, cast(Any, self.catalogue), services.admission, services.pool)
        cast(Any, store).open = lambda _entry, _template=None: self.model
        return AllModels(
            store,
            cast(Any, SimpleNamespace(list_models=list, list_ready=list, list_failures=list, is_added=lambda _: False)),
        )

    def send(self, text: str = "Hi", **values: Any) -> list[Any]:
        """Send a question and draw its answer to the end."""
        return list(self.answers.send(self.session, text, "m-1", values))
