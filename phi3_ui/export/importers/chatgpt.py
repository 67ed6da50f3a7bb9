"""Read chats from ChatGPT's data export: `conversations.json`, a list of message trees.

Tool calls, tool results and reasoning become part of the answer's text, with code and output as code blocks.
"""

import re
from typing import Any

from phi3_ui.chat.conversation import Answer, Conversation
from phi3_ui.chat.types import FinishReason
from phi3_ui.export.importers.fields import (
    build_kind_refusal,
    read_list,
    read_record,
    read_text,
    read_time,
    reject_content,
    wrap_reasoning,
)
from phi3_ui.export.importers.message_tree import ImportedMessage, build_conversation
from phi3_ui.export.markdown import fence
from phi3_ui.export.refusal import ImportRefusedError

_FINISH_REASONS: dict[str, FinishReason] = {"max_tokens": "length", "interrupted": "cancelled"}
_CITATION = re.compile(r" ?(\ue200[^\ue200\ue201]*\ue201|【[\d:]+†[^【】]*】)")
_MAX_LINKS = 1_000_000  # characters per message: one link may replace any number of citation marks
_ROLES = ("system", "user", "assistant", "tool")


def read_chatgpt_chat(chat: dict[str, Any]) -> tuple[str, Conversation]:
    """Return title and conversation of one element of `conversations.json`. Raises ImportRefusedError, naming the field."""
    nodes = read_record(chat.get("mapping"), "mapping")
    parents = _find_parents(nodes)
    default_model = read_text(chat, "default_model_slug", "chat")
    messages = [_read_node(key, node, parents.get(key), default_model) for key, node in nodes.items()]
    leaf = read_text(chat, "current_node", "chat") or None
    if leaf and leaf not in nodes:
        raise ImportRefusedError("no_message", place="current_node", id=leaf)
    conversation = build_conversation(messages, leaf, read_time(chat, "create_time", "chat"))
    return read_text(chat, "title", "chat"), conversation


def _find_parents(nodes: dict[str, Any]) -> dict[str, str | None]:
    """Return the parent of every node, which the node itself or its parent's list of children may give."""
    parents = dict[str, str | None]()
    for key, node in nodes.items():
        place = f"mapping.{key}"
        children = read_list(read_record(node, place), "children", place)
        if unknown := [child for child in children if not isinstance(child, str) or child not in nodes]:
            raise ImportRefusedError("no_message", place=f"{place}.children", id=unknown[0])
        parents |= dict.fromkeys(children, key)
    for key, node in nodes.items():
        parent = read_text(node, "parent", f"mapping.{key}")
        # An empty root may name a parent that is not in the export.
        if parent and (parent in nodes or node.get("message")):
            parents[key] = parent
    return parents


def _read_node(key: str, node: dict[str, Any], parent: str | None, default_model: str) -> ImportedMessage:
    place = f"mapping.{key}"
    if node.get("message") is None:
        return ImportedMessage(key, parent, "context", "", place)
    place = f"{place}.message"
    message = read_record(node["message"], place)
    author = read_record(message.get("author"), f"{place}.author")
    content = read_record(message.get("content"), f"{place}.content")
    metadata = read_record(message.get("metadata") or {}, f"{place}.metadata")
    kind = read_text(content, "content_type", f"{place}.content") or "text"
    if (role := read_text(author, "role", f"{place}.author")) not in _ROLES:
        raise ImportRefusedError("unknown_role", place=f"{place}.author.role", role=role)
    reject_content(metadata, ("attachments",), f"{place}.metadata")
    asked_at = read_time(message, "create_time", place)
    if context := _read_context(role, kind, content, metadata, place):
        return ImportedMessage(key, parent, "context", context, place, asked_at)
    if metadata.get("is_visually_hidden_from_conversation") and role != "system":
        return ImportedMessage(key, parent, "context", "", place, asked_at)  # the user never saw it
    text = _read_content(kind, content, metadata, f"{place}.content")
    if role == "system" or kind in _CONTEXTS:
        return ImportedMessage(key, parent, "context", text, place, asked_at)
    if role == "user":
        return ImportedMessage(key, parent, "user", text, place, asked_at)
    text = _replace_citations(text, metadata, f"{place}.metadata")
    recipient = message.get("recipient") or "all"
    if text and (role == "tool" or recipient != "all") and kind == "text":
        text = fence(text)
    answer = _read_answer(metadata, f"{place}.metadata", default_model) if role == "assistant" else None
    return ImportedMessage(key, parent, "assistant", text, place, asked_at, answer, continues=True)


def _read_answer(metadata: dict[str, Any], place: str, default_model: str) -> Answer:
    details = read_record(metadata.get("finish_details") or {}, f"{place}.finish_details")
    ending = read_text(details, "type", f"{place}.finish_details")
    model = read_text(metadata, "model_slug", place) or default_model
    return Answer(model, "", finish_reason=_FINISH_REASONS.get(ending, "stop"))


_CONTEXTS = {
    "user_editable_context": ("user_profile", "user_instructions"),
    "model_editable_context": ("model_set_context",),
}
"""Content that ChatGPT sends in addition to the messages: custom instructions and memory."""


def _read_context(role: str, kind: str, content: dict[str, Any], metadata: dict[str, Any], place: str) -> str:
    """Return custom instructions and memory; empty for an ordinary message."""
    if names := _CONTEXTS.get(kind):
        return "\n\n".join(filter(None, (read_text(content, name, f"{place}.content") for name in names)))
    if role == "system" and metadata.get("is_user_system_message"):
        text = _read_content(kind, content, metadata, f"{place}.content")
        place = f"{place}.metadata.user_context_message_data"
        given = read_record(metadata.get("user_context_message_data") or {}, place)
        return "\n\n".join(filter(None, (text, *(read_text(given, name, place) for name in given))))
    return ""


def _read_content(kind: str, content: dict[str, Any], metadata: dict[str, Any], place: str) -> str:
    """Return the text of a message; raise ImportRefusedError if it contains anything else."""
    match kind:
        case "text" | "multimodal_text":
            return "".join(
                _read_part(part, f"{place}.parts.{i}") for i, part in enumerate(read_list(content, "parts", place))
            )
        case "code":
            language = read_text(content, "language", place)
            text = read_text(content, "text", place)
            return fence(text, "" if language == "unknown" else language) if text else ""
        case "execution_output" | "system_error":
            _reject_images(metadata, place)
            return fence(text) if (text := read_text(content, "text", place)) else ""
        case "thoughts":
            thoughts = [read_record(one, f"{place}.thoughts") for one in read_list(content, "thoughts", place)]
            texts = [read_text(one, name, f"{place}.thoughts") for one in thoughts for name in ("summary", "content")]
            return wrap_reasoning("\n\n".join(filter(None, texts)))
        case "reasoning_recap" | "user_editable_context" | "model_editable_context":
            return ""  # the duration of the reasoning, and contexts without text
        case _:
            raise build_kind_refusal(f"{place}.content_type", kind)


def _replace_citations(text: str, metadata: dict[str, Any], place: str) -> str:
    """Replace ChatGPT's citation marks by the links that it shows for them, and remove marks without a link."""
    links = dict[str, str]()
    for value in read_list(metadata, "content_references", place):
        reference = read_record(value, f"{place}.content_references")
        mark, shown = reference.get("matched_text"), reference.get("alt")
        if isinstance(mark, str) and isinstance(shown, str):
            links[mark] = shown
    if sum(len(links.get(found[1], "")) for found in _CITATION.finditer(text)) > _MAX_LINKS:
        raise ImportRefusedError("message_too_long", count=_MAX_LINKS)
    return _CITATION.sub(lambda found: found[0].replace(found[1], links[found[1]]) if found[1] in links else "", text)


def _read_part(part: Any, place: str) -> str:
    if part is None or isinstance(part, str):
        return part or ""
    kind = read_record(part, place).get("content_type")
    if kind not in ("text", "audio_transcription"):
        raise build_kind_refusal(place, kind)
    return read_text(part, "text", place)


def _reject_images(metadata: dict[str, Any], place: str) -> None:
    result = metadata.get("aggregate_result")
    outputs = result.get("messages") if isinstance(result, dict) else None
    for output in outputs or ():
        if isinstance(output, dict) and output.get("message_type") == "image":
            raise ImportRefusedError("other_kind", place=place, kind="image")
