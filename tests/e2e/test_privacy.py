"""Tests that no visitor can list, open, change or rate another's chats, on the page or through the server's API."""

import json
import secrets
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import Page, expect

from tests.e2e.conftest import App, NewVisitor, OpenPage, ScriptedStore
from tests.support.accessibility import Findings
from tests.support.app_server import Server, find_traces, serve
from tests.support.chat_page import ChatPage
from tests.support.logins import hash_logins

SECRET = "My secret word is xylophone."


class ApiClient:
    """An HTTP client that triggers the page's events as a page would, with its own session."""

    def __init__(self, server: Server) -> None:
        self._http = httpx.Client(base_url=server.url, timeout=60)
        self.session = secrets.token_hex(6)
        self.config: dict[str, Any] = self._http.get("/config").json()

    def close(self) -> None:
        self._http.close()

    def _find_event(self, element: str, event: str) -> dict[str, Any]:
        component = next(item["id"] for item in self.config["components"] if item["props"].get("elem_id") == element)
        return next(item for item in self.config["dependencies"] if [component, event] in item["targets"])

    def call(self, element: str, event: str, data: list[Any] | None = None, event_data: Any = None) -> str:
        """Trigger an event of the component with this element id, and return the server's whole response."""
        return self._send(self._find_event(element, event), data, event_data)

    def load_page(self, restored: object) -> str:
        """Load the page as another visitor's tab that claims to have shown `restored`."""
        events = [item for item in self.config["dependencies"] if len(item["inputs"]) == 2 and is_load_event(item)]
        assert len(events) == 1
        return self._send(events[0], [secrets.token_urlsafe(24), restored])

    def _send(self, dependency: dict[str, Any], data: list[Any] | None, event_data: Any = None) -> str:
        inputs = data if data is not None else [None] * len(dependency["inputs"])
        body = {"data": inputs, "event_data": event_data, "fn_index": dependency["id"], "session_hash": self.session}
        joined = self._http.post("/gradio_api/queue/join", json=body)
        assert joined.status_code == 200, joined.text
        received = ""
        with self._http.stream("GET", f"/gradio_api/queue/data?session_hash={self.session}") as lines:
            for line in lines.iter_lines():
                received += line
                if '"process_completed"' in line or '"close_stream"' in line:
                    return received
        return received

    def press(self, name: str, value: str, text: str = "") -> str:
        """Press an action button, with "mine now" in the page's text boxes."""
        inputs = len(self._find_event("phi3-actions", "click")["inputs"])
        data = ["mine now", None, "mine now", "", 0.0, 1.0, 8, 50, "", "", 1, 0, 0]
        assert len(data) == inputs
        return self.call("phi3-actions", "click", data, {"name": name, "value": value, "text": text})

    def get(self, path: str) -> str:
        return self._http.get(path).text


def is_load_event(dependency: dict[str, Any]) -> bool:
    return any(event == "load" for _, event in dependency["targets"])


def test_two_visitors_cannot_find_each_others_chats(app: App, open_page: OpenPage) -> None:
    mine, theirs = open_page(), open_page()
    mine.answer(SECRET)
    expect(mine.chats).to_have_count(1)
    turn = mine.action_buttons("retry").get_attribute("value") or ""
    (chat,) = mine.chat_ids()

    theirs.search.fill("xylophone")
    expect(theirs.chat_list).to_contain_text("No chats found.")
    theirs.search.fill("")
    expect(theirs.chat_list).to_contain_text("Your chats will be listed here.")

    (trace,) = app.traces(1, mine)
    visitor_id = trace.info.trace_metadata["mlflow.trace.user"]
    with closing(ApiClient(app.server)) as stranger:
        responses = [
            stranger.call("phi3-search", "change", ["xylophone"]),
            *(
                stranger.press(name, chat, "mine now")
                for name in ("open", "pin", "save_json", "delete", "restore", "show")
            ),
            stranger.call("phi3-chats", "edit", [], {"id": chat, "title": "mine now"}),
            *(stranger.press(name, turn) for name in ("show", "edit", "undo", "retry", "good", "bad", "reproduce")),
            stranger.press("open", f"{chat}' OR metadata.`phi3_ui.turn` != '"),
            # The visitor id in the store is not the secret sent by the browser.
            stranger.call("phi3-search", "change", [visitor_id]),
            *(
                stranger.load_page(restored)
                for restored in ({"chat": chat, "login": "", "draft": "mine now"}, chat, [turn], None)
            ),
            stranger.get("/config"),
            stranger.get("/gradio_api/info"),
        ]
    assert "This chat no longer exists" in responses[1]
    for response in responses:
        assert "xylophone" not in response.replace('"xylophone"', "")
        assert SECRET not in response

    traces = app.traces(1, mine)
    assert "mine now" not in json.dumps([trace.info.to_dict() for trace in find_traces(app.server.home)])
    assert traces[0].info.assessments == []
    expect(mine.reload().chats).to_have_text([SECRET])


def test_the_content_security_policy_blocks_scripts_in_injected_markup(new_visitor: NewVisitor, app: App) -> None:
    page = new_visitor().new_page()
    page.goto(app.server.url)
    ChatPage(page).wait_until_ready()
    ran, violations = page.evaluate(
        """async () => {
          const violations = [];
          document.addEventListener("securitypolicyviolation", (event) => violations.push(event.effectiveDirective));
          const container = document.createElement("div");
          document.body.append(container);
          container.innerHTML = `<img src="nothing" onerror="window.ran = 1"><svg onload="window.ran = 2"></svg>
            <a href="javascript:window.ran = 3">x</a><iframe srcdoc="<script>parent.ran = 4</script>"></iframe>`;
          container.querySelector("a").click();
          const script = document.createElement("script");
          script.textContent = "window.ran = 5";
          container.append(script);
          await new Promise((resolve) => container.querySelector("img").addEventListener("error", resolve));
          await new Promise((resolve) => setTimeout(resolve));
          return [window.ran ?? null, violations.length];
        }"""
    )
    page.context.close()

    assert ran is None
    assert violations >= 4


def test_a_user_has_the_same_chats_in_every_browser(
    new_visitor: NewVisitor, scripted_store: ScriptedStore, tmp_path: Path
) -> None:
    home = scripted_store.copy_to(tmp_path)

    def open_as(name: str, password: str) -> ChatPage:
        page = new_visitor().new_page()
        page.goto(server.url)
        return log_in(page, name, password)

    with serve(home, home / "app.log", variables={"PHI3_UI_LOGINS": hash_logins(anna="one", bob="two")}) as server:
        assert httpx.get(f"{server.url}/config").status_code == 401
        anna = open_as("anna", "one")
        anna.answer(SECRET)
        bob, anna_again = open_as("bob", "two"), open_as("anna", "one")
        expect(bob.chat_list).to_contain_text("Your chats will be listed here.")
        expect(anna_again.chats).to_have_text([SECRET])
        anna_again.chats.first.click()
        expect(anna_again.questions).to_have_text([SECRET])
        anna_again.message.fill(SECRET)
        anna_again.page.get_by_role("button", name="Log out").click()
        expect(anna_again.page).to_have_title("Log in · Phi-3 Chat on MLflow")
        name = anna_again.page.get_by_label("User name")
        expect(name).to_be_focused()
        expect(name).to_have_attribute("autocomplete", "username")
        name.fill("bob")
        anna_again.page.get_by_label("Password").fill("wrong")
        anna_again.page.get_by_role("button", name="Log in").click()
        expect(anna_again.page.get_by_role("alert")).to_contain_text("do not match")
        expect(name).to_have_value("bob")
        expect_accessible_login_page(anna_again.page)
        bob_again = log_in(anna_again.page, "bob", "two")
        expect(bob_again.questions).to_have_count(0)
        expect(bob_again.message).to_have_value("")
        for chat in (anna, bob, anna_again):
            chat.page.context.close()
    assert [trace.info.trace_metadata["mlflow.trace.user"] for trace in find_traces(home)] == ["anna"]


def expect_accessible_login_page(page: Page) -> None:
    """Check the login page after a failed login, in dark mode and in Romanian."""
    findings = Findings(page)
    findings.check("refused")
    page.emulate_media(color_scheme="dark")
    page.reload()
    findings.check("dark")
    assert page.evaluate("getComputedStyle(document.documentElement).colorScheme") == "dark"
    page.context.set_extra_http_headers({"Accept-Language": "ro"})
    page.set_viewport_size({"width": 320, "height": 400})
    page.reload()
    expect(page.get_by_role("button", name="Autentificare")).to_be_in_viewport()
    findings.check("Romanian")
    page.context.set_extra_http_headers({})
    page.set_viewport_size({"width": 1400, "height": 900})
    page.reload()
    findings.assert_none()


def log_in(page: Page, name: str, password: str) -> ChatPage:
    page.get_by_label("User name").fill(name)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Log in").click()
    return ChatPage(page).wait_until_ready()
