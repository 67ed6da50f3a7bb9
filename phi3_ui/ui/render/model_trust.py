"""The code that loading a model would run, for its card."""

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
    """Whether the user can allow it on the page."""


def trust_chip(language: str, review: Review | None) -> tuple[str, str]:
    """Return class and text of the chip that tells whose code runs. `review` is None if the files have not been inspected yet."""
    if review is None:
        return "plain", tr(language, "trust.unseen")
    if review.inspection.level != "code":
        return "accent", tr(language, f"trust.{review.inspection.level}")
    return "warn", tr(language, "trust.approved" if review.is_approved else "trust.code")


def describe_code(language: str, model_id: str, review: Review | None, can_approve: bool) -> BroughtCode | None:
    """Describe the code that comes with a model; None if there is none, or if its files have not been inspected yet.

    `can_approve`: the card offers a button to allow it.
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
