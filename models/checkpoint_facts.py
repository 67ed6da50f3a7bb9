"""What a client must know about a model, read from its folder: chat template, special tokens, end tokens, context length."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from models.stage import StageError

Kind = Literal["checkpoint", "onnx"]

_SENTINEL = "answersentinel"


def require_model(folder: Path, kind: Kind) -> None:
    """Raise StageError("wrong_model_folder") unless `folder` contains a model of this kind, in safetensors or for ONNX Runtime GenAI."""
    if kind == "onnx":
        label, needed = "ONNX Runtime GenAI model", ["genai_config.json"]
        if (folder / needed[0]).is_file():
            needed.append(_read(folder / needed[0])["model"]["decoder"]["filename"])
    else:
        label, needed = "Hugging Face checkpoint", ["config.json", *(file.name for file in weight_files(folder))]
    for name in [*needed, "tokenizer.json", "tokenizer_config.json"]:
        if not (folder / name).is_file():
            raise StageError("wrong_model_folder", folder=str(folder), kind=label, missing=name)


def require_known_kind(checkpoint: Path) -> None:
    """Raise StageError("needs_remote_code") if the checkpoint's architecture is not part of transformers."""
    import transformers
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    kind = str(_read(checkpoint / "config.json").get("model_type"))
    if kind not in CONFIG_MAPPING:
        raise StageError("needs_remote_code", folder=str(checkpoint), kind=kind, version=transformers.__version__)


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files that make up a checkpoint's weights, in order. They need not exist."""
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return [folder / "model.safetensors"]
    return [folder / name for name in sorted(set(_read(index)["weight_map"].values()))]


def client_facts(folder: Path) -> dict[str, Any]:
    """The facts by name, of a Hugging Face checkpoint or an ONNX Runtime GenAI folder.

    `chat_template` (Jinja), `special_tokens` (every added token), `bos_token`, `eos_token`, `context_length` in tokens,
    `end_tokens`: the tokens that end an answer. StageError: no_chat_template.
    """
    settings = _read(folder / "tokenizer_config.json")
    facts = {
        "chat_template": _chat_template(folder, settings),
        "special_tokens": [token["content"] for token in _read(folder / "tokenizer.json")["added_tokens"]],
        "bos_token": _token_text(settings.get("bos_token")),
        "eos_token": _token_text(settings.get("eos_token")),
        "context_length": _context_length(folder),
    }
    return {**facts, "end_tokens": _end_tokens(folder, facts)}


def token_ids(folder: Path, tokens: list[str]) -> list[int]:
    """The ids of these tokens, in order, without those that the folder's tokenizer does not have."""
    ids = {text: id_ for id_, text in _vocabulary(folder).items()}
    return [ids[token] for token in tokens if token in ids]


def _end_tokens(folder: Path, facts: dict[str, Any]) -> list[str]:
    """The end tokens in the model's files, and the token that its template renders right after an answer.

    Some checkpoints declare only the end-of-text token, although each answer ends with an end-of-turn token.
    """
    texts = _vocabulary(folder)
    named = [texts[id_] for id_ in _eos_ids(folder) if id_ in texts]
    return list(dict.fromkeys([*named, *filter(None, [facts["eos_token"]]), *_tokens_after_answer(facts)]))


def _eos_ids(folder: Path) -> Iterator[int]:
    for name in ("generation_config.json", "genai_config.json", "config.json"):
        if (folder / name).is_file():
            content = _read(folder / name)
            ids = content.get("model", content).get("eos_token_id")
            yield from ids if isinstance(ids, list) else [] if ids is None else [ids]


def _vocabulary(folder: Path) -> dict[int, str]:
    """The text of each token by id; only of added tokens where the vocabulary is not a table."""
    tokenizer = _read(folder / "tokenizer.json")
    plain = tokenizer["model"].get("vocab")
    texts = {id_: text for text, id_ in plain.items()} if isinstance(plain, dict) else {}
    return texts | {token["id"]: token["content"] for token in tokenizer["added_tokens"]}


def _tokens_after_answer(facts: dict[str, Any]) -> list[str]:
    from jinja2.exceptions import TemplateError
    from jinja2.ext import loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    turns = [{"role": "user", "content": "question"}, {"role": "assistant", "content": _SENTINEL}]
    try:
        text = environment.from_string(facts["chat_template"]).render(
            messages=turns,
            add_generation_prompt=False,
            bos_token=facts["bos_token"],
            eos_token=facts["eos_token"],
            strftime_now=lambda _: "",
        )
    except (TemplateError, TypeError, ValueError, AttributeError, LookupError):
        return []  # a template for other conversations: the end tokens of the files remain
    tokens = "|".join(map(re.escape, sorted(facts["special_tokens"], key=len, reverse=True)))
    found = re.search(rf"{_SENTINEL}\s*({tokens})", text) if tokens else None
    return [found[1]] if found else []


def _chat_template(folder: Path, settings: dict[str, Any]) -> str:
    file = folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    template = settings.get("chat_template")
    if isinstance(template, list):  # several, by name
        template = next((one["template"] for one in template if one["name"] == "default"), None)
    if not template:
        raise StageError("no_chat_template", folder=str(folder))
    return str(template)


def _read(file: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return content


def _token_text(token: str | dict[str, Any] | None) -> str:
    return str(token["content"]) if isinstance(token, dict) else token or ""


def _context_length(folder: Path) -> int:
    if (folder / "genai_config.json").exists():
        return int(_read(folder / "genai_config.json")["model"]["context_length"])
    return int(_read(folder / "config.json")["max_position_embeddings"])
