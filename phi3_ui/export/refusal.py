"""Why a chat, or a file of chats, cannot be imported."""

from dataclasses import dataclass
from typing import Self

from phi3_ui.errors import UserError
from phi3_ui.i18n.translate import tr, tr_error

_MAX_VALUE = 100  # characters shown of a value from a file


@dataclass(frozen=True)
class ChatPlace:
    """The place of a chat in an imported file."""

    file: str = ""
    """Name of the file within a zip; empty outside a zip."""
    number: int = 0
    """Number in a list, counted from 1; 0 for a file with one chat."""
    title: str = ""


class ImportRefusedError(UserError, ValueError):
    """The reason why a chat is refused, as part of a sentence. str() is in English."""

    def __init__(self, code: str, **values: object) -> None:
        """Create a refusal; `code` is a key of errors.SENTENCES without its prefix `import_`. Long values are truncated."""
        shown = {name: value if isinstance(value, int) else str(value)[:_MAX_VALUE] for name, value in values.items()}
        super().__init__(f"import_{code}", **shown)
        self.place = ChatPlace()

    def at(self, place: ChatPlace) -> Self:
        """Set the place of the refused chat, and return self."""
        self.place = place
        return self

    def render(self, language: str) -> str:
        """Return the place and the reason as text."""
        file, number, title = self.place.file, self.place.number, self.place.title[:50]
        parts = [file[:_MAX_VALUE]] if file else []
        if number:
            parts.append(tr(language, "import.titled" if title else "import.numbered", number=number, title=title))
        return ": ".join([*parts, tr_error(language, self)])

    def __str__(self) -> str:
        return self.render("en")
