"""Checks a page with axe-core, the standard accessibility checker, and for what that leaves out."""

from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Page

_RUN_AXE = "(within) => axe.run(within, { resultTypes: ['violations'] }).then(({ violations }) => violations)"
_SEVERE = {"serious", "critical"}

# What axe leaves out: targets that are too small for a finger, and placeholders that are too faint to be read.
_FIND_MORE = """(within) => {
  const isSeen = (element) => {
    const { width, height } = element.getBoundingClientRect();
    return width > 1 && height > 1 && element.checkVisibility({ visibilityProperty: true, opacityProperty: true });
  };
  const describe = (element) => element.outerHTML.slice(0, 160);
  const all = (selector) => [...document.querySelectorAll(selector)].filter((one) => one.closest(within) && isSeen(one));

  const isSmall = (element) => {
    const { width, height } = (element.closest("label") ?? element).getBoundingClientRect();
    return Math.min(width, height) < 24;
  };
  const TARGETS = "button, a[href], input, select, textarea, summary, [role=option], [role=tab]";
  const isLeftOut = (element) => element.matches(":disabled, p a, .phi3-written a");
  const small = all(TARGETS).filter((element) => !isLeftOut(element) && isSmall(element)).map((element) => {
    const { width, height } = element.getBoundingClientRect();
    return `target of ${width} × ${height} px: ${describe(element)}`;
  });

  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const paint = (colors) => {
    for (const color of colors) {
      canvas.fillStyle = color;
      canvas.fillRect(0, 0, 1, 1);
    }
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const luminance = (channels) => {
    const [red, green, blue] = channels.map((one) => one / 255)
      .map((one) => one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4);
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const backgrounds = (element) => {
    const found = [];
    for (let one = element; one; one = one.parentElement) found.unshift(getComputedStyle(one).backgroundColor);
    return ["white", ...found];
  };
  const faint = all("[placeholder]:placeholder-shown").flatMap((field) => {
    const { color, opacity } = getComputedStyle(field, "::placeholder");
    const below = backgrounds(field);
    const [light, dark] = [paint(below), paint([...below, color])].map(luminance).sort((a, b) => b - a);
    const contrast = (light + 0.05) / (dark + 0.05);
    return contrast < 4.5 || opacity < 1 ? [`placeholder with a contrast of ${contrast}: ${describe(field)}`] : [];
  });
  return [...small, ...faint];
}"""


def find_violations(page: Page, within: str = "html") -> list[str]:
    """What is wrong in the parts of the page that a selector finds, a line for each element.

    These are axe's serious and critical violations, with impact, rule, selector, the element and what is wrong; targets of
    less than 24 pixels; and placeholders with a contrast below 4.5.
    """
    # Colours are compared as they are at rest.
    page.wait_for_function("document.getAnimations().every((animation) => animation.playState !== 'running')")
    if not page.evaluate("'axe' in globalThis"):  # once for all states of a page: compiling it takes a while
        page.evaluate(AXE_SCRIPT)
    violations = page.evaluate(_RUN_AXE, within)
    found = [
        f"{violation['impact']} {violation['id']}: {node['target']} {node['html'][:160]} {_messages(node)}"
        for violation in violations
        if violation["impact"] in _SEVERE
        for node in violation["nodes"]
    ]
    return found + list[str](page.evaluate(_FIND_MORE, within))


def _messages(node: dict[str, list[dict[str, str]]]) -> str:
    return "; ".join(check["message"] for kind in ("any", "all", "none") for check in node[kind])


class Findings:
    """What is wrong in the states of one page."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._lines: list[str] = []

    def look(self, state: str, within: str = "html") -> None:
        """Check the parts of the page that a selector finds, in the state that it is in."""
        self._lines += [f"{state}: {line}" for line in find_violations(self._page, within)]

    def expect_none(self) -> None:
        """Fail with all that was found."""
        assert not self._lines, "\n".join(self._lines)
