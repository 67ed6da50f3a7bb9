"""Read the facts about a model that a client needs from its folder: chat template, special and end tokens, context length."""

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from models.chat_template import (
    RejectionError,
    TemplateError,
    find_answer_markers,
    is_token_name,
    render_chat_template,
)
from models.stage import StageError

Kind = Literal["checkpoint", "onnx"]

_SENTINEL = "answersentinel"
_QUESTION = {"role": "user", "content": "question"}
_ANSWER = {"role": "assistant", "content": _SENTINEL}


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
    """Return the safetensors files with a checkpoint's weights, in order. They need not exist."""
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return [folder / "model.safetensors"]
    return [folder / name for name in sorted(set(_read(index)["weight_map"].values()))]


def client_facts(folder: Path) -> dict[str, Any]:
    """Return the facts by name, from a Hugging Face checkpoint or an ONNX Runtime GenAI folder.

    `chat_template` (Jinja), `special_tokens` (every added token), `answer_markers` (added tokens that the template looks for in
    answers, such as `</think>`), `bos_token`, `eos_token` (empty if the files give none), further tokens named in the files,
    `context_length` in tokens, `end_tokens`: the tokens that end an answer.

    Raises StageError: no_chat_template, bad_chat_template.
    """
    settings = _read_tokenizer_settings(folder)
    template, file = _read_chat_template(folder, settings)
    tokens = _list_named_tokens(settings)
    _require_renderable(template, tokens, file)
    added = _read(folder / "tokenizer.json")["added_tokens"]
    special_tokens = [token["content"] for token in added]
    plain_tokens = [token["content"] for token in added if not token["special"]]
    facts = {
        "chat_template": template,
        "special_tokens": special_tokens,
        "answer_markers": find_answer_markers(template, tokens, plain_tokens),
        "bos_token": "",
        "eos_token": "",
        **tokens,
        "context_length": _read_context_length(folder),
    }
    after_answer = _find_tokens_after_answer(template, tokens, special_tokens)
    ends = [*_list_named_end_tokens(folder), *filter(None, [tokens.get("eos_token")]), *after_answer]
    return {**facts, "end_tokens": list(dict.fromkeys(ends))}


def token_ids(folder: Path, tokens: list[str]) -> list[int]:
    """Return the ids of these tokens, in order; those unknown to the folder's tokenizer are skipped."""
    ids = {text: id_ for id_, text in _read_vocabulary(folder).items()}
    return [ids[token] for token in tokens if token in ids]


def _require_renderable(template: str, tokens: dict[str, str], file: Path) -> None:
    """Raise StageError("bad_chat_template") if the template cannot render a question, or a follow-up question.

    It may reject a follow-up deliberately, since some models only answer single questions.
    """
    try:
        render_chat_template(template, [_QUESTION], tokens)
        with contextlib.suppress(RejectionError):
            render_chat_template(template, [_QUESTION, _ANSWER, _QUESTION], tokens)
    except TemplateError as error:
        raise StageError("bad_chat_template", file=str(file), detail=str(error)) from error


def _list_named_end_tokens(folder: Path) -> list[str]:
    texts = _read_vocabulary(folder)
    return [texts[id_] for id_ in _iterate_eos_ids(folder) if id_ in texts]


def _iterate_eos_ids(folder: Path) -> Iterator[int]:
    for name in ("generation_config.json", "genai_config.json", "config.json"):
        if (folder / name).is_file():
            content = _read(folder / name)
            ids = content.get("model", content).get("eos_token_id")
            yield from ids if isinstance(ids, list) else [] if ids is None else [ids]


def _read_vocabulary(folder: Path) -> dict[int, str]:
    """Return the text of each token by id; only of the added tokens if the vocabulary is not a table."""
    tokenizer = _read(folder / "tokenizer.json")
    plain = tokenizer["model"].get("vocab")
    texts = {id_: text for text, id_ in plain.items()} if isinstance(plain, dict) else {}
    return texts | {token["id"]: token["content"] for token in tokenizer["added_tokens"]}


def _find_tokens_after_answer(template: str, tokens: dict[str, str], special_tokens: list[str]) -> list[str]:
    """Return the special token that the template writes directly after an answer, if there is one.

    Some checkpoints only declare the end-of-text token, although each answer ends with an end-of-turn token.
    """
    try:
        text = render_chat_template(template, [_QUESTION, _ANSWER], tokens, add_generation_prompt=False)
    except TemplateError:
        return []  # the template only supports single questions: use the end tokens of the files
    special = "|".join(map(re.escape, sorted(special_tokens, key=len, reverse=True)))
    found = re.search(rf"{_SENTINEL}\s*({special})", text) if special else None
    return [found[1]] if found else []


def _read_tokenizer_settings(folder: Path) -> dict[str, Any]:
    """Read tokenizer_config.json; older checkpoints name their tokens in a separate file, which transformers then prefers."""
    settings = _read(folder / "tokenizer_config.json")
    legacy = folder / "special_tokens_map.json"
    return {**settings, **_read(legacy)} if legacy.is_file() and "added_tokens_decoder" not in settings else settings


def _read_chat_template(folder: Path, settings: dict[str, Any]) -> tuple[str, Path]:
    """Return the template, and the file that contains it."""
    file = folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8"), file
    template = settings.get("chat_template")
    if isinstance(template, list):
        template = {one["name"]: one["template"] for one in template}
    if isinstance(template, dict):  # several, by name
        template = template.get("default")
    if not template:
        raise StageError("no_chat_template", folder=str(folder))
    return str(template), folder / "tokenizer_config.json"


def _read(file: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return content


def _list_named_tokens(settings: dict[str, Any]) -> dict[str, str]:
    """Return the tokens that a tokenizer has names for, both common ones and its own, such as `image_token`."""
    extra = settings.get("extra_special_tokens")
    named = {**settings, **(extra if isinstance(extra, dict) else {})}
    return {name: text for name, token in named.items() if is_token_name(name) and (text := _get_token_text(token))}


def _get_token_text(token: Any) -> str:
    """Return the text of a token; empty for any other setting, such as the flag `add_bos_token`."""
    text = token.get("content") if isinstance(token, dict) else token
    return text if isinstance(text, str) else ""


def _read_context_length(folder: Path) -> int:
    if (folder / "genai_config.json").exists():
        return int(_read(folder / "genai_config.json")["model"]["context_length"])
    return int(_read(folder / "config.json")["max_position_embeddings"])
