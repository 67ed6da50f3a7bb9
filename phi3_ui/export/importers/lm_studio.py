"""Read chats of LM Studio: files `*.conversation.json`, in which a message has several versions."""

import re
from typing import Any

from phi3_ui.chat.conversation import Answer, Conversation
from phi3_ui.chat.types import FinishReason, Timings, Usage
from phi3_ui.export.importers.fields import read_list, read_parts, read_record, read_text, read_time, wrap_reasoning
from phi3_ui.export.importers.message_tree import ImportedMessage, Role, build_conversation
from phi3_ui.export.refusal import ImportRefusedError

_ROLES: dict[str, Role] = {"system": "system", "user": "user", "assistant": "assistant"}
_SYSTEM_PROMPT = "llm.prediction.systemPrompt"
_DISPLAY_STEPS = ("status", "toolStatus", "debugInfoBlock")
_FINISH_REASONS: dict[str, FinishReason] = {
    "maxPredictedTokensReached": "length",
    "contextLengthReached": "length",
    "userStopped": "cancelled",
}
_STEP_TIME = re.compile(r"(\d{13})-")


def read_lm_studio_chat(chat: dict[str, Any]) -> tuple[str, Conversation]:
    """Return title and conversation of one file. Raises ImportRefusedError, naming the field.

    The versions of a message become variants. Later messages follow the selected version.
    """
    model = _read_model(read_record(chat.get("lastUsedModel") or {}, "lastUsedModel"), "lastUsedModel")
    messages, parent = list[ImportedMessage](), None
    for number, value in enumerate(read_list(chat, "messages", "chat")):
        place = f"messages.{number}"
        message = read_record(value, place)
        versions = read_list(message, "versions", place)
        selected = message.get("currentlySelected") or 0
        if type(selected) is not int or not 0 <= selected < len(versions):
            raise ImportRefusedError("no_version", place=f"{place}.currentlySelected")
        for n, version in enumerate(versions):
            messages.append(_read_version(f"{number}.{n}", parent, version, f"{place}.versions.{n}", model))
        parent = f"{number}.{selected}"
    conversation = build_conversation(messages, parent, read_time(chat, "createdAt", "chat"), _read_system(chat))
    return read_text(chat, "name", "chat"), conversation


def _read_system(chat: dict[str, Any]) -> str:
    config = read_record(chat.get("perChatPredictionConfig") or {}, "perChatPredictionConfig")
    for number, value in enumerate(read_list(config, "fields", "perChatPredictionConfig")):
        place = f"perChatPredictionConfig.fields.{number}"
        field = read_record(value, place)
        if field.get("key") == _SYSTEM_PROMPT:
            return read_text(field, "value", place)
    return read_text(chat, "systemPrompt", "chat")


def _read_version(key: str, parent: str | None, value: Any, place: str, model: str) -> ImportedMessage:
    version = read_record(value, place)
    if (role := _ROLES.get(read_text(version, "role", place))) is None:
        raise ImportRefusedError("unknown_role", place=f"{place}.role", role=version.get("role"))
    steps = [read_record(step, f"{place}.steps") for step in read_list(version, "steps", place)]
    blocks = [_read_step(step, f"{place}.steps.{number}") for number, step in enumerate(steps)]
    if "content" in version or not steps:
        blocks.insert(0, "".join(read_parts(version.get("content"), ("text",), f"{place}.content")))
    return ImportedMessage(
        id=key,
        parent=parent,
        role=role,
        text="\n\n".join(filter(None, blocks)),
        place=place,
        asked_at=_read_step_time(steps),
        answer=_read_answer(version, steps, place, model) if role == "assistant" else None,
    )


def _read_step(step: dict[str, Any], place: str) -> str:
    if step.get("type") in _DISPLAY_STEPS:
        return ""
    if step.get("type") != "contentBlock":
        raise ImportRefusedError("other_kind", place=place, kind=step.get("type"))
    text = "".join(read_parts(step.get("content"), ("text",), f"{place}.content"))
    prefix, suffix = read_text(step, "prefix", place), read_text(step, "suffix", place)
    style = step.get("style")
    is_reasoning = isinstance(style, dict) and style.get("type") == "thinking"
    # The tags around reasoning are stored separately from its text.
    return wrap_reasoning(text) if is_reasoning and not prefix and "<think>" not in text else prefix + text + suffix


def _read_step_time(steps: list[dict[str, Any]]) -> float | None:
    """Return the start of the first step in seconds since 1970; its identifier begins with that time in milliseconds."""
    found = _STEP_TIME.match(str(steps[0].get("stepIdentifier"))) if steps else None
    return int(found[1]) / 1000 if found else None


def _read_model(record: dict[str, Any], place: str) -> str:
    return read_text(record, "identifier", place) or read_text(record, "indexedModelIdentifier", place)


def _read_answer(version: dict[str, Any], steps: list[dict[str, Any]], place: str, model: str) -> Answer:
    infos = [step["genInfo"] for step in (*steps, version) if isinstance(step.get("genInfo"), dict)]
    info = infos[-1] if infos else {}
    sender = read_record(version.get("senderInfo") or {}, f"{place}.senderInfo")
    name = _read_model(info, f"{place}.genInfo") or read_text(sender, "senderName", f"{place}.senderInfo") or model
    stats = info.get("stats")
    if not isinstance(stats, dict):
        return Answer(name, "", finish_reason="stop")
    prompt, completion = (_parse_count(stats.get(f"{kind}TokensCount")) for kind in ("prompt", "predicted"))
    seconds = _parse_number(stats.get("totalTimeSec"))
    timings = (
        Timings(_parse_number(stats.get("timeToFirstTokenSec")), seconds, _parse_number(stats.get("tokensPerSecond")))
        if seconds
        else None
    )
    usage = None if prompt is None or completion is None else Usage(prompt, completion)
    return Answer(name, "", usage, timings, _FINISH_REASONS.get(str(stats.get("stopReason")), "stop"))


def _parse_count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _parse_number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0 else None
