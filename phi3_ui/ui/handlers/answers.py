"""Put a question of a page's chat to a model, and keep what comes of it."""

from phi3_ui.chat.conversation import Conversation
from phi3_ui.chat.running_turn import RunningTurn
from phi3_ui.store.registry.cards import ModelEntry
from phi3_ui.ui.handlers.model_picker import ModelPicker
from phi3_ui.ui.render.labels import answer_label
from phi3_ui.ui.services import Services
from phi3_ui.ui.sessions import Chat, Session


class AnswerStarter:
    def __init__(self, services: Services, models: ModelPicker) -> None:
        self._settings = services.settings
        self._pool = services.pool
        self._keeper = services.conversations
        self._models = models

    def start(self, session: Session, chat: Chat, entry: ModelEntry, conversation: Conversation) -> RunningTurn:
        """The last turn shown of `conversation`, which becomes the chat's, is put to `entry`; the chat holds its answer in the end."""
        turn, label = conversation.turns[-1], answer_label(session.language, entry)
        chat.conversation = conversation
        kept = self._keeper.start_turn(session.person, chat.id, conversation, label)
        chat.running = RunningTurn(
            conversation.build_request(self._settings.answer_seconds),
            label,
            lambda: self._pool.get_model(self._models.spec(entry)),
            lambda answer: chat.keep(turn.id, kept, answer),
            kept.append_text,
        )
        return chat.running.start()
