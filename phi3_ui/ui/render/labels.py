"""Plain-text names of models: above the chat, in the model menu and below answers."""

from phi3_ui.i18n.translate import TEXTS, format_datetime, format_number, tr
from phi3_ui.store.registry.cards import ModelEntry, RegisteredVersion

_ENGINES = {
    text: key.removeprefix("engine.")
    for texts in TEXTS.values()
    for key, text in texts.items()
    if key.startswith("engine.") and isinstance(text, str)
}
_SUFFIXES = {"onnxruntime-genai": "-onnx", "transformers": "-pipeline"}
"""The suffixes that the logging programs append to a model's name, by engine."""
_KIBI = 1024


def picker_label(language: str, entry: ModelEntry) -> str:
    """Label a model in a list: name, engine, and when it was logged or which server has it."""
    place = entry.host if entry.is_unlogged else format_datetime(language, entry.created)
    return f"{answer_label(language, entry)} · {place}"


def place_label(language: str, entry: ModelEntry) -> str:
    """Label a model with its server, if it is remote."""
    return " · ".join(filter(None, (answer_label(language, entry), entry.host)))


def answer_label(language: str, entry: ModelEntry) -> str:
    """Label an answer with its model's name and engine."""
    return f"{entry.name} · {engine_name(language, entry)}"


def split_answer_label(label: str) -> tuple[str, str]:
    """Split an answer's label into name and engine; an imported answer has no engine."""
    name, separator, engine = label.rpartition(" · ")
    return (name, engine) if separator else (label, "")


def find_engine(label: str) -> str | None:
    """Return the engine in an answer's label, which may be in another language; None if it names none."""
    _, _, name = label.rpartition(" · ")
    return _ENGINES.get(name)


def engine_name(language: str, entry: ModelEntry) -> str:
    """Return the name of the engine that runs the model."""
    return tr(language, f"engine.{entry.engine}")


def short_name(entry: ModelEntry) -> str:
    """Return the model's name without the engine, for places that show the engine beside it."""
    return entry.name.removesuffix(_SUFFIXES.get(entry.engine, "")) or entry.name


def version_label(version: RegisteredVersion) -> str:
    """Label a registered version with its aliases: v1 · champion."""
    return " · ".join([f"v{version.version}", *version.aliases])


def context_label(language: str, tokens: int) -> str:
    """Label a context length: 8k context."""
    size = f"{format_number(language, tokens // _KIBI)}k" if tokens >= _KIBI else format_number(language, tokens)
    return tr(language, "models.context", size=size)


def speed_label(language: str, tokens_per_second: float) -> str:
    """Label a measured speed, with a decimal if it is slow: 98 tokens/s."""
    decimals = 1 if tokens_per_second < 10 else 0
    return tr(language, "rate", rate=format_number(language, tokens_per_second, decimals))
