"""What loading a model would run, as its card shows it."""

from typing import TypedDict

from phi3_ui.i18n.translate import tr
from phi3_ui.store.registry.admission import Review, printable

_MAX_LISTED = 12


class BroughtCode(TypedDict):
    """The code that comes with a model."""

    title: str
    suspects: list[tuple[str, str]]
    """Path, and why it may run code."""
    more: str
    cure: str
    is_offered: bool
    """Whether the person at the page can allow it."""


def trust_chip(language: str, review: Review | None) -> tuple[str, str]:
    """Class and text of the chip that says whose code runs; None: the model's files were not seen yet."""
    if review is None:
        return "plain", tr(language, "trust.unseen")
    if review.inspection.level != "code":
        return "accent", tr(language, f"trust.{review.inspection.level}")
    return "warn", tr(language, "trust.approved" if review.is_approved else "trust.code")


def describe_code(language: str, model_id: str, review: Review | None, can_approve: bool) -> BroughtCode | None:
    """The code that a model brings; None if it brings none, or if its files were not seen yet.

    `can_approve`: the card has a button to allow it.
    """
    if review is None or review.inspection.level != "code":
        return None
    suspects = review.inspection.suspects
    rest = len(suspects) - _MAX_LISTED
    cure = tr(language, "trust.cure_here" if can_approve else "trust.cure", command=_command(model_id))
    return {
        "title": tr(language, "trust.title_approved" if review.is_approved else "trust.title"),
        "suspects": [
            (printable(one.path), tr(language, f"trust.reason.{one.reason}")) for one in suspects[:_MAX_LISTED]
        ],
        "more": tr(language, "trust.more", count=rest) if rest > 0 else "",
        "cure": "" if review.is_approved else cure,
        "is_offered": can_approve and not review.is_approved,
    }


def _command(model_id: str) -> str:
    return f"python -m phi3_ui trust {model_id} --approve"
