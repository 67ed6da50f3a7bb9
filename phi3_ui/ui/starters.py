"""Questions that an empty chat offers. In English, the demo model gives a usable answer to each of them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Starter:
    """A question asked with one click. Every field is a key of the texts in i18n/."""

    title: str
    about: str
    """The question as the button shows it."""
    question: str
    system: str | None = None
    """The system prompt that it sets; None keeps the current one."""


STARTERS = {
    name: Starter(f"starter.{name}", f"starter.{name}.question", f"starter.{name}.question")
    for name in ("explain", "code", "role", "ideas")
}
STARTERS["role"] = Starter("starter.role", "starter.role.about", "starter.role.question", "starter.role.system")
