"""Plain-text names of models: in the picker and below answers."""

from phi3_ui.i18n.translate import TEXTS, format_datetime, tr
from phi3_ui.store.registry.cards import ModelEntry

_ENGINES = {
    text: key.removeprefix("engine.")
    for texts in TEXTS.values()
    for key, text in texts.items()
    if key.startswith("engine.") and isinstance(text, str)
}


def picker_label(language: str, entry: ModelEntry) -> str:
    """Label a model in the picker: name, engine, creation time."""
    return f"{answer_label(language, entry)} · {format_datetime(language, entry.created)}"


def alias_label(language: str, name: str, alias: str, version: str) -> str:
    """Label a registered alias in the picker."""
    return tr(language, "picker.alias", name=name, alias=alias, version=version)


def answer_label(language: str, entry: ModelEntry) -> str:
    """Label an answer with its model's name and engine."""
    return f"{entry.name} · {tr(language, f'engine.{entry.engine}')}"


def find_engine(label: str) -> str | None:
    """The engine in an answer's label, which may be in another language; None if it names none."""
    _, _, name = label.rpartition(" · ")
    return _ENGINES.get(name)
