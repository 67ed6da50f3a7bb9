"""Save chats as files: Markdown, JSON with the complete chat, or a zip of many. chat_file.py reads them."""

import io
import json
import zipfile
from collections.abc import Iterable

from phi3_ui.chat.conversation import Conversation
from phi3_ui.export.file_names import make_file_name
from phi3_ui.export.markdown import to_markdown
from phi3_ui.export.openai_messages import to_openai_messages
from phi3_ui.export.own_chat import FORMAT, TURNS

__all__ = ["create_archive", "to_json", "to_markdown"]


def to_json(conversation: Conversation, title: str) -> str:
    """Return JSON with `title`, `messages` (OpenAI-style, the shown branch) and `phi3_ui` (the whole tree, for import).

    Lone surrogates, which UTF-8 cannot encode, become "?".
    """
    own = {"format": FORMAT, "leaf": conversation.leaf, "turns": TURNS.dump_python(conversation.tree, mode="json")}
    content = {"title": title, "messages": to_openai_messages(conversation), "phi3_ui": own}
    return json.dumps(content, ensure_ascii=False, indent=2).encode(errors="replace").decode() + "\n"


def create_archive(chats: Iterable[tuple[str, Conversation]]) -> bytes:
    """Return a zip with a .json and a .md file for each title and conversation, named after the title."""
    packed = io.BytesIO()
    taken = dict[str, int]()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as files:
        for title, conversation in chats:
            name = make_file_name(title, taken)
            files.writestr(f"{name}.json", to_json(conversation, title))
            files.writestr(f"{name}.md", to_markdown(conversation, title))
    return packed.getvalue()
