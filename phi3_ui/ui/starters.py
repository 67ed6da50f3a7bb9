"""Questions that an empty chat offers. In English, the demo model gives a usable answer to each of them."""

from dataclasses import dataclass

from phi3_ui.i18n.translate import TEXTS, tr


@dataclass(frozen=True)
class Starter:
    """A question with one click. Every field is a key of the texts of i18n/."""

    title: str
    about: str
    """What the button says it will ask."""
    question: str
    system: str | None = None
    """The system prompt that it sets; None leaves the one there is."""


STARTERS = {
    name: Starter(f"starter.{name}", f"starter.{name}.question", f"starter.{name}.question")
    for name in ("explain", "code", "joke", "ideas")
}
STARTERS["joke"] = Starter("starter.joke", "starter.joke.about", "starter.joke.question", "starter.joke.system")


def is_starter_system(system: str) -> bool:
    """Whether this is the system prompt of a starter, in any language."""
    return any(
        starter.system and system == tr(language, starter.system) for starter in STARTERS.values() for language in TEXTS
    )
