"""Chats that leave the page as files and come back, and an answer as a program. No layout, no HTML."""

import base64
import contextlib
import json
import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import gradio as gr

from phi3_ui.chat.conversation import Conversation, new_id
from phi3_ui.errors import UserError
from phi3_ui.export.archive import create_archive, read_chats, to_json, to_markdown
from phi3_ui.export.file_names import safe_file_name
from phi3_ui.export.reproduce import render_program
from phi3_ui.i18n.translate import tr, tr_error
from phi3_ui.prompts.templates import NoTemplateError
from phi3_ui.prompts.tokenization import TemplateError
from phi3_ui.ui.handlers.conversations import ConversationController
from phi3_ui.ui.page.components import Page, Updates
from phi3_ui.ui.services import Services
from phi3_ui.ui.sessions import Chat, Session

_MOST_TURNS = 20_000  # of one import


class ExportController:
    def __init__(
        self,
        page: Page,
        services: Services,
        chats: ConversationController,
        session: Callable[[gr.Request], Session],
    ) -> None:
        self._page = page
        self._catalogue = services.catalogue
        self._keeper = services.conversations
        self._chats = chats
        self._session = session
        chats.acts["reproduce"] = lambda session, turn_id, _: self._reproduce(session, turn_id)

    def as_markdown(self, request: gr.Request) -> Updates:
        return self._one(request, "md", "text/markdown", to_markdown)

    def as_json(self, request: gr.Request) -> Updates:
        return self._one(request, "json", "application/json", to_json)

    def all(self, request: gr.Request) -> Updates:
        """Every chat of this person, in one archive."""
        session, history = self._session(request), self._keeper.history
        try:
            listed = history.list_conversations(session.person)
            chats = [(one.title, history.load(session.person, one.id)) for one in listed]
        except UserError as error:
            return self._refused(session, error)
        if not chats:
            return self._refused(session, UserError("nothing_to_export"))
        return self._download(f"chats-{datetime.now():%Y-%m-%d}.zip", "application/zip", create_archive(chats))

    def read(self, path: str | None, request: gr.Request) -> Updates:
        """Take in the chats of an uploaded file, and show the first of them."""
        session = self._session(request)
        if not path:
            return {self._page.export.upload: gr.skip()}
        try:
            content = Path(path).read_bytes()
        finally:
            with contextlib.suppress(OSError):
                os.unlink(path)  # what was uploaded is read once
        try:
            chats = read_chats(content)
            if sum(len(conversation.tree) for _, conversation in chats) > _MOST_TURNS:
                raise UserError("invalid_chat_file", detail=f"it holds more than {_MOST_TURNS:,} questions")
        except UserError as error:
            return {**self._refused(session, error), self._page.export.upload: None}
        opened = [self._take(session, title, conversation) for title, conversation in chats]
        session.show(opened[0])
        gr.Info(tr(session.language, "import.done", count=len(opened)))
        return {**self._chats.shown(session), self._page.export.upload: None}

    def _take(self, session: Session, title: str, conversation: Conversation) -> Chat:
        chat, history = Chat(new_id()), self._keeper.history
        chat.conversation = self._keeper.import_conversation(session.person, chat.id, conversation)
        if title and title != conversation.title:
            history.rename(session.person, chat.id, title)
        history.save_shown_branch(session.person, chat.id, chat.conversation)
        return chat

    def _one(self, request: gr.Request, ending: str, kind: str, write: Callable[[Conversation, str], str]) -> Updates:
        session = self._session(request)
        chat = session.current
        if not chat.conversation.tree:
            return self._refused(session, UserError("nothing_to_export"))
        title = self._keeper.history.get_title(session.person, chat.id) or chat.conversation.title
        return self._download(f"{safe_file_name(title, {})}.{ending}", kind, write(chat.conversation, title).encode())

    def _download(self, name: str, kind: str, content: bytes) -> Updates:
        # Told apart from the last by its time: the same file may be wanted twice.
        packed = {"name": name, "kind": kind, "content": base64.b64encode(content).decode(), "at": str(datetime.now())}
        return {self._page.export.download: json.dumps(packed)}

    def _refused(self, session: Session, error: UserError) -> Updates:
        gr.Warning(tr_error(session.language, error))
        return {self._page.export.download: ""}

    def _reproduce(self, session: Session, turn_id: str) -> Updates:
        """UserError: no_such_turn, model_gone, cannot_reproduce."""
        chat, page = session.current, self._page
        self._chats.require(chat, turn_id)
        turn = chat.conversation.get_turn(turn_id)
        if turn.request is None or not turn.request.model_id:
            raise UserError("cannot_reproduce")
        entry = self._catalogue.find(turn.request.model_id)
        declared = self._catalogue.load_declaration(entry)
        try:
            program = render_program(chat.conversation, turn_id, declared, entry.tracking_uri, entry.template)
        except (ValueError, NoTemplateError, TemplateError) as error:
            raise UserError("cannot_reproduce") from error
        return {page.reproduce.panel: gr.Accordion(visible=True, open=True), page.reproduce.snippet: program}
