"""Checks a page with axe-core, the standard accessibility checker."""

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

_AXE = Axe()
_OPTIONS = {"resultTypes": ["violations"]}
_SEVERE = {"serious", "critical"}


def find_violations(page: Page) -> list[str]:
    """The serious and critical violations, a line for each element: impact, rule, selector, the element, what is wrong."""
    # Colours are compared as they are at rest.
    page.wait_for_function("document.getAnimations().every((animation) => animation.playState !== 'running')")
    violations = _AXE.run(page, options=_OPTIONS).response["violations"]
    return [
        f"{violation['impact']} {violation['id']}: {node['target']} {node['html'][:160]} {_messages(node)}"
        for violation in violations
        if violation["impact"] in _SEVERE
        for node in violation["nodes"]
    ]


def _messages(node: dict[str, list[dict[str, str]]]) -> str:
    return "; ".join(check["message"] for kind in ("any", "all", "none") for check in node[kind])
