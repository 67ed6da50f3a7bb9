"""Export chats as files, and reproduce an answer as a program."""

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import gradio as gr

from models.chat_template import TemplateError, TemplateLimitError
from phi3_ui.chat.conversation import Conversation
from phi3_ui.errors import UserError
from phi3_ui.export.archive import create_archive, to_json, to_markdown
from phi3_ui.export.file_names import make_file_name
from phi3_ui.export.reproduce import render_program
from phi3_ui.i18n.translate import tr
from phi3_ui.prompts.templates import NoTemplateError
from phi3_ui.ui.handlers.conversations import ConversationController
from phi3_ui.ui.notices import show_info, show_warning
from phi3_ui.ui.page.components import Page, Updates
from phi3_ui.ui.services import Services
from phi3_ui.ui.sessions import Session


@dataclass(frozen=True)
class _FileFormat:
    """A format for saving a chat."""

    ending: str
    media_type: str
    write: Callable[[Conversation, str], str]


_MARKDOWN = _FileFormat("md", "text/markdown", to_markdown)
_JSON = _FileFormat("json", "application/json", to_json)


class ExportController:
    """Actions that save chats or reproduce an answer."""

    def __init__(
        self,
        page: Page,
        services: Services,
        chats: ConversationController,
        session: Callable[[gr.Request], Session],
    ) -> None:
        self._page = page
        self._catalogue = services.catalogue
        self._models = services.models
        self._store = services.conversations
        self._chats = chats
        self._session = session
        chats.actions |= {
            "save_markdown": lambda session, action: self._save(session, action.value, _MARKDOWN),
            "save_json": lambda session, action: self._save(session, action.value, _JSON),
            "save_all": lambda session, _: self._save_all(session),
            "reproduce": lambda session, action: self._reproduce(session, action.value),
        }

    def save_shown(self, request: gr.Request) -> Updates:
        """Download the shown chat as Markdown."""
        session = self._session(request)
        try:
            return self._save(session, "", _MARKDOWN)
        except UserError as error:
            show_warning(session.explain(error))
            return {self._page.export.download: gr.skip()}

    def _save_all(self, session: Session) -> Updates:
        """Download all chats of the user as one archive."""
        history = self._store.history
        listed = history.list_conversations(session.user_id)
        chats, hidden = list[tuple[str, Conversation]](), 0
        for one in listed:
            try:
                chats.append((one.title, self._chats.load(session, one.id)))
            except UserError as error:
                if error.code != "vote_first":
                    raise
                hidden += 1
        if not chats:
            raise UserError("vote_first" if hidden else "nothing_to_export")
        if hidden:
            show_info(tr(session.language, "export.hidden", count=hidden))
        return self._download(f"chats-{datetime.now():%Y-%m-%d}.zip", "application/zip", create_archive(chats))

    def _save(self, session: Session, chat_id: str, file: _FileFormat) -> Updates:
        """Download a chat; the shown one if `chat_id` is empty."""
        history = self._store.history
        conversation = self._chats.load(session, chat_id) if chat_id else session.current.conversation
        if not conversation.tree:
            raise UserError("nothing_to_export")
        title = history.get_title(session.user_id, chat_id or session.current.id) or conversation.title
        name = f"{make_file_name(title, {})}.{file.ending}"
        return self._download(name, file.media_type, file.write(conversation, title).encode())

    def _download(self, name: str, kind: str, content: bytes) -> Updates:
        return {self._page.export.download: pack_download(name, kind, content)}

    def _reproduce(self, session: Session, turn_id: str) -> Updates:
        """Show the program that reproduces an answer.

        Raises:
            UserError: no_such_turn, model_gone, remote_not_reproduced, cannot_reproduce, bad_template, and those of ModelSource.require.
        """
        chat, conversation = session.current, session.current.conversation
        self._chats.require_turn(chat, turn_id)
        turn = conversation.get_turn(turn_id)
        if turn.request is None or not turn.request.model_id:
            raise UserError("cannot_reproduce")
        entry = self._models.find(turn.request.model_id)  # for an imported chat, whichever model its file names
        if entry.is_remote:
            raise UserError("remote_not_reproduced", model=entry.name)
        self._models.require(entry)
        declared = self._catalogue.load_declaration(entry)
        try:
            program = render_program(conversation, turn_id, declared, entry.tracking_uri, entry.template)
        except TemplateLimitError as error:
            raise UserError("bad_template", model=entry.name, detail=str(error)) from error
        except (ValueError, NoTemplateError, TemplateError) as error:
            raise UserError("cannot_reproduce") from error
        return {self._page.program: {"program": program, "at": str(datetime.now())}}


def pack_download(name: str, kind: str, content: bytes) -> str:
    """Encode a file as the value of the hidden component that saves it; `kind` is its media type."""
    # The time makes the value differ from the previous one, since the same file may be requested twice.
    packed = {"name": name, "kind": kind, "content": base64.b64encode(content).decode(), "at": str(datetime.now())}
    return json.dumps(packed)
