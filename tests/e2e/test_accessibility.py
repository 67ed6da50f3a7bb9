"""axe finds nothing serious in any state of the page: light and dark, wide and narrow, English and Romanian."""

import pytest
from playwright.sync_api import expect

from phi3_ui.testing import Reply
from tests.e2e.conftest import App, OpenPage
from tests.support.accessibility import find_violations

DESKTOP = {"width": 1440, "height": 900}
PHONE = {"width": 390, "height": 844}
ANSWER = """A **table** and code:

| a | b |
| - | - |
| 1 | 2 |

```python
print("hello")  # a comment
```

- [x] done
- [ ] to do
"""


@pytest.mark.parametrize(
    ("viewport", "scheme", "locale"),
    [
        (DESKTOP, "light", "en-GB"),
        (DESKTOP, "dark", "ro-RO"),
        (PHONE, "dark", "en-GB"),
        (PHONE, "light", "ro-RO"),
    ],
    ids=["desktop light", "desktop dark Romanian", "phone dark", "phone light Romanian"],
)
def test_axe_finds_nothing_serious(
    app: App, open_page: OpenPage, viewport: dict[str, int], scheme: str, locale: str
) -> None:
    gate = app.model.create_gate()
    app.model.enqueue(Reply("Once upon ", gate, "a time."), Reply(ANSWER))
    chat = open_page(viewport=viewport, color_scheme=scheme, locale=locale)
    found = {"empty": find_violations(chat.page)}
    expected = chat.ask("Write a story.")
    chat.wait_for_text()
    found["mid-stream"] = find_violations(chat.page)
    gate.open()
    chat.wait_for_caption(expected)
    chat.answer("A table, please.")
    chat.press("good")
    expect(chat.action("good").last).to_have_attribute("aria-pressed", "true")
    found["answered"] = find_violations(chat.page)
    for tab in ("usage", "model", "settings"):
        chat.show_tab(tab)
        found[tab] = find_violations(chat.page)
    chat.page.keyboard.press("Escape")
    chat.open_panel("left")
    found["conversations"] = find_violations(chat.page)
    lines = [f"{state}: {line}" for state, lines in found.items() for line in lines]
    assert not lines, "\n".join(lines)
