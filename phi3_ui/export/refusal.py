"""Why a chat, or a file of chats, cannot be imported."""

from dataclasses import dataclass
from typing import Self

from phi3_ui.errors import UserError
from phi3_ui.i18n.translate import tr, tr_error

_MAX_VALUE = 100  # characters of what a file contains


@dataclass(frozen=True)
class ChatPlace:
    """Where a chat is in an imported file."""

    file: str = ""
    """In a zip; empty outside."""
    number: int = 0
    """In a list, from 1; 0 for a file with one chat."""
    title: str = ""


class ImportRefusedError(UserError, ValueError):
    """A reason, as a part of a sentence. str() is in English."""

    def __init__(self, code: str, **values: object) -> None:
        """`code` is one of errors.SENTENCES without its prefix `import_`. Long values are cut."""
        shown = {name: value if isinstance(value, int) else str(value)[:_MAX_VALUE] for name, value in values.items()}
        super().__init__(f"import_{code}", **shown)
        self.place = ChatPlace()

    def at(self, place: ChatPlace) -> Self:
        """Itself, of the chat at this place."""
        self.place = place
        return self

    def render(self, language: str) -> str:
        """The place and the reason."""
        file, number, title = self.place.file, self.place.number, self.place.title[:50]
        parts = [file[:_MAX_VALUE]] if file else []
        if number:
            parts.append(tr(language, "import.titled" if title else "import.numbered", number=number, title=title))
        return ": ".join([*parts, tr_error(language, self)])

    def __str__(self) -> str:
        return self.render("en")
