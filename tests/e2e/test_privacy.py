"""Nobody lists, opens, changes or rates another's chats: through the page, and by calling the server's API directly."""

import json
import secrets
from collections.abc import Callable
from contextlib import ExitStack, closing
from typing import Any

import httpx
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.e2e.conftest import Server
from tests.e2e.test_history import Place, person, place, visit  # noqa: F401  (fixtures)
from tests.support.chat_page import ChatPage

SECRET = "My secret word is xylophone."


class Stranger:
    """A program that calls the page's events as a page would, with a session of its own."""

    def __init__(self, server: Server) -> None:
        self._http = httpx.Client(base_url=server.url, timeout=60)
        self.session = secrets.token_hex(6)
        self.config: dict[str, Any] = self._http.get("/config").json()

    def close(self) -> None:
        self._http.close()

    def _event(self, element: str, event: str) -> dict[str, Any]:
        of = next(one["id"] for one in self.config["components"] if one["props"].get("elem_id") == element)
        return next(one for one in self.config["dependencies"] if [of, event] in one["targets"])

    def call(self, element: str, event: str, data: list[Any] | None = None, event_data: Any = None) -> str:
        """All that the server answers to an event of the component with this id."""
        return self._ask(self._event(element, event), data, event_data)

    def arrive(self, held: object) -> str:
        """As a tab that held this before, with a browser's secret of its own."""
        loads = [one for one in self.config["dependencies"] if len(one["inputs"]) == 2 and _of_load(one)]
        assert len(loads) == 1
        return self._ask(loads[0], [secrets.token_urlsafe(24), held])

    def _ask(self, dependency: dict[str, Any], data: list[Any] | None, event_data: Any = None) -> str:
        given = data if data is not None else [None] * len(dependency["inputs"])
        body = {"data": given, "event_data": event_data, "fn_index": dependency["id"], "session_hash": self.session}
        joined = self._http.post("/gradio_api/queue/join", json=body)
        assert joined.status_code == 200, joined.text
        said = ""
        with self._http.stream("GET", f"/gradio_api/queue/data?session_hash={self.session}") as lines:
            for line in lines.iter_lines():
                said += line
                if '"process_completed"' in line or '"close_stream"' in line:
                    return said
        return said

    def act(self, name: str, value: str, text: str = "") -> str:
        inputs = len(self._event("phi3-actions", "click")["inputs"])
        data = [None, "", 0.0, 1.0, 8, 50, "", "", 1, 0, 0, "mine now", "mine now"]
        assert len(data) == inputs
        return self.call("phi3-actions", "click", data, {"name": name, "value": value, "text": text})

    def get(self, path: str) -> str:
        return self._http.get(path).text


def _of_load(dependency: dict[str, Any]) -> bool:
    return any(event == "load" for _, event in dependency["targets"])


def test_two_people_find_nothing_of_each_other(place: Place, person: Callable[[], BrowserContext]) -> None:  # noqa: F811
    with place.serve() as server, ExitStack() as closed_at_the_end:
        mine, theirs = visit(person(), server), visit(person(), server)
        mine.answer(SECRET)
        expect(mine.chats).to_have_count(1)
        turn = mine.page.locator('#phi3-chat button[name="retry"]').get_attribute("value") or ""
        chat = mine.chats.first.get_attribute("value") or ""

        theirs.search.fill("xylophone")
        expect(theirs.page.locator("#phi3-chats")).to_contain_text("No chats found.")
        theirs.search.fill("")
        expect(theirs.page.locator("#phi3-chats")).to_contain_text("Your chats will be listed here.")

        stranger = closed_at_the_end.enter_context(closing(Stranger(server)))
        (trace,) = place.traces()
        name_in_store = trace.info.trace_metadata["mlflow.trace.user"]
        answers = [
            stranger.call("phi3-search", "change", ["xylophone"]),
            *(stranger.act(name, chat, "mine now") for name in ("open", "rename", "delete", "restore", "show")),
            *(stranger.act(name, turn) for name in ("show", "edit", "undo", "retry", "good", "bad", "reproduce")),
            stranger.act("open", f"{chat}' OR metadata.`phi3_ui.turn` != '"),
            # What the store calls a person is not what the browser says of itself.
            stranger.call("phi3-search", "change", [name_in_store]),
            *(stranger.arrive(held) for held in ({"chat": chat, "login": "", "draft": "mine now"}, chat, [turn], None)),
            stranger.get("/config"),
            stranger.get("/gradio_api/info"),
        ]
        assert "This chat no longer exists" in answers[1]
        for answer in answers:
            assert "xylophone" not in answer.replace('"xylophone"', "")
            assert SECRET not in answer

        stored = json.dumps([one.info.to_dict() for one in place.traces()])
        assert "mine now" not in stored
        assert place.traces()[0].info.assessments == []
        mine.page.reload()
        chat_page = ChatPage(mine.page).ready()
        expect(chat_page.chats).to_have_text([SECRET])


def test_a_login_is_the_same_person_in_every_browser(place: Place, browser: Browser) -> None:  # noqa: F811
    def come(server: Server, name: str, password: str) -> ChatPage:
        page = browser.new_context(viewport={"width": 1400, "height": 900}).new_page()
        page.goto(server.url)
        return log_in(page, name, password)

    def log_in(page: Page, name: str, password: str) -> ChatPage:
        page.locator("input").nth(0).fill(name)
        page.locator("input").nth(1).fill(password)
        page.get_by_role("button", name="Login").click()
        return ChatPage(page).ready()

    with place.serve(PHI3_UI_LOGINS="anna:one,bob:two") as server:
        assert httpx.get(f"{server.url}/config").status_code == 401
        anna = come(server, "anna", "one").pick("ONNX")
        anna.setting("Max tokens", 8)
        anna.answer(SECRET)
        bob, again = come(server, "bob", "two"), come(server, "anna", "one")
        expect(bob.page.locator("#phi3-chats")).to_contain_text("Your chats will be listed here.")
        expect(again.chats).to_have_text([SECRET])
        again.chats.first.click()
        expect(again.questions).to_have_text([SECRET])
        again.message.fill(SECRET)
        again.page.get_by_role("link", name="Log out").click()
        expect(again.page.get_by_role("button", name="Login")).to_be_visible()
        next_ = log_in(again.page, "bob", "two")
        expect(next_.questions).to_have_count(0)
        expect(next_.message).to_have_value("")
        for one in (anna, bob, again):
            one.page.context.close()
    assert [trace.info.trace_metadata["mlflow.trace.user"] for trace in place.traces()] == ["anna"]
