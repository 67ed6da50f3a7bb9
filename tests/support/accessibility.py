"""Accessibility checks of a page: axe-core, and checks that axe lacks."""

from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Page

_RUN_AXE = "(within) => axe.run(within, { resultTypes: ['violations'] }).then(({ violations }) => violations)"
_SEVERE = {"serious", "critical"}

# Not covered by axe: targets too small for touch, and placeholders too faint to read.
_EXTRA_CHECKS = """(within) => {
  const isVisible = (element) => {
    const { width, height } = element.getBoundingClientRect();
    return width > 1 && height > 1 && element.checkVisibility({ visibilityProperty: true, opacityProperty: true });
  };
  const describe = (element) => element.outerHTML.slice(0, 160);
  const findAll = (selector) =>
    [...document.querySelectorAll(selector)].filter((element) => element.closest(within) && isVisible(element));

  const isSmall = (element) => {
    const { width, height } = (element.closest("label") ?? element).getBoundingClientRect();
    return Math.min(width, height) < 24;
  };
  const TARGETS = "button, a[href], input, select, textarea, summary, [role=option], [role=tab]";
  const isExempt = (element) => element.matches(":disabled, p a, .phi3-written a");
  const smallTargets = findAll(TARGETS).filter((element) => !isExempt(element) && isSmall(element)).map((element) => {
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
    const [red, green, blue] = channels.map((channel) => channel / 255)
      .map((value) => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const backgrounds = (element) => {
    const colors = [];
    for (let ancestor = element; ancestor; ancestor = ancestor.parentElement) {
      colors.unshift(getComputedStyle(ancestor).backgroundColor);
    }
    return ["white", ...colors];
  };
  const faintPlaceholders = findAll("[placeholder]:placeholder-shown").flatMap((field) => {
    const { color, opacity } = getComputedStyle(field, "::placeholder");
    const behind = backgrounds(field);
    const [light, dark] = [paint(behind), paint([...behind, color])].map(luminance).sort((a, b) => b - a);
    const contrast = (light + 0.05) / (dark + 0.05);
    return contrast < 4.5 || opacity < 1 ? [`placeholder with a contrast of ${contrast}: ${describe(field)}`] : [];
  });
  return [...smallTargets, ...faintPlaceholders];
}"""


def find_violations(page: Page, selector: str = "html") -> list[str]:
    """Return the problems in the parts of the page that match `selector`, one line per element.

    These are axe's serious and critical violations, with impact, rule, selector, element and reason; targets smaller
    than 24 pixels; and placeholders with a contrast below 4.5.
    """
    # Colours can be compared only once all animations have ended.
    page.wait_for_function("document.getAnimations().every((animation) => animation.playState !== 'running')")
    if not page.evaluate("'axe' in globalThis"):  # inject it once per page, because compiling it is slow
        page.evaluate(AXE_SCRIPT)
    violations = page.evaluate(_RUN_AXE, selector)
    lines = [
        f"{violation['impact']} {violation['id']}: {node['target']} {node['html'][:160]} {_join_messages(node)}"
        for violation in violations
        if violation["impact"] in _SEVERE
        for node in violation["nodes"]
    ]
    return lines + list[str](page.evaluate(_EXTRA_CHECKS, selector))


def _join_messages(node: dict[str, list[dict[str, str]]]) -> str:
    return "; ".join(check["message"] for kind in ("any", "all", "none") for check in node[kind])


class Findings:
    """Accessibility problems in the states of one page."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._lines: list[str] = []

    def check(self, state: str, selector: str = "html") -> None:
        """Check the parts that match `selector`, in the current state of the page."""
        self._lines += [f"{state}: {line}" for line in find_violations(self._page, selector)]

    def assert_none(self) -> None:
        """Fail if any check found a problem, and list all problems."""
        assert not self._lines, "\n".join(self._lines)
