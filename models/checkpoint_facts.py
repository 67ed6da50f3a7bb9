"""What a client must know of a model, read from its folder: template, special tokens, context length."""

import json
from pathlib import Path
from typing import Any


def client_facts(folder: Path) -> dict[str, Any]:
    """`chat_template` (Jinja), `special_tokens` (every added token), `bos_token`, `eos_token`, `context_length` in tokens.

    Works on a Hugging Face checkpoint and on an ONNX Runtime GenAI folder.
    """
    settings = _read(folder / "tokenizer_config.json")
    tokenizer = _read(folder / "tokenizer.json")
    template = folder / "chat_template.jinja"
    return {
        "chat_template": template.read_text(encoding="utf-8") if template.exists() else settings["chat_template"],
        "special_tokens": [token["content"] for token in tokenizer["added_tokens"]],
        "bos_token": _text(settings.get("bos_token")),
        "eos_token": _text(settings.get("eos_token")),
        "context_length": _context_length(folder),
    }


def _read(file: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return content


def _text(token: str | dict[str, Any] | None) -> str:
    return str(token["content"]) if isinstance(token, dict) else token or ""


def _context_length(folder: Path) -> int:
    if (folder / "genai_config.json").exists():
        return int(_read(folder / "genai_config.json")["model"]["context_length"])
    return int(_read(folder / "config.json")["max_position_embeddings"])
