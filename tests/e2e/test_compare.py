"""Comparisons: one question to several models, and a blind vote before which no model is named."""

import json
import re
from pathlib import Path

from playwright.sync_api import Locator, Page, ViewportSize, expect

from phi3_ui.testing import Reply
from tests.e2e.conftest import App, NewVisitor, OpenPage, ScriptedStore, open_chat
from tests.support.accessibility import find_violations
from tests.support.app_server import find_free_port, find_traces, serve, wait_until
from tests.support.chat_page import LOAD, ChatPage

PHONE: ViewportSize = {"width": 390, "height": 844}
DESKTOP: ViewportSize = {"width": 1440, "height": 844}
QUESTION = "Why don't electrons play hide and seek with protons?"
FIRST = "Because the proton always finds them: opposite charges attract, so wherever the electron hides, it is found."
SECOND = "Electrons are negatively charged and protons are positively charged, so they attract each other."
NAMES = re.compile("scripted-(one|two)")

RECORD_TRAFFIC = """
globalThis.sentByServer = [];
const originalFetch = globalThis.fetch;
globalThis.fetch = async (...request) => {
  const response = await originalFetch(...request);
  const record = async (stream) => {
    const decoder = new TextDecoder();
    const index = sentByServer.push("") - 1;
    for await (const chunk of stream) sentByServer[index] += decoder.decode(chunk, { stream: true });
  };
  if (response.body) record(response.clone().body).catch(() => null);
  return response;
};
"""
"""Records all response bodies, including streams, which the browser's debugger reports only once they end."""


def read_traffic(page: Page) -> set[str]:
    """Return all strings that the server has sent since the page was loaded, except for static files."""
    texts = set[str]()
    for body in page.evaluate("sentByServer"):
        for line in body.splitlines():
            collect_texts(line.removeprefix("data: "), texts)
    return texts


def collect_texts(value: object, texts: set[str]) -> None:
    """Add all strings in a value to `texts`, including those inside JSON strings."""
    if isinstance(value, str):
        try:
            parsed = json.loads(value)
        except ValueError:
            parsed = value
        if isinstance(parsed, str):
            texts.add(parsed)
        else:
            collect_texts(parsed, texts)
    elif isinstance(value, dict):
        if "hidden" in value:
            texts.add(f"round: {json.dumps(value)}")
        for part in value.values():
            collect_texts(part, texts)
    elif isinstance(value, list):
        for part in value:
            collect_texts(part, texts)


def open_comparison(chat: ChatPage, name: str = "Compare") -> None:
    chat.page.get_by_role("button", name=name, exact=True).click()
    expect(chat.compare.get_by_role("heading", name=name)).to_be_visible()


def ask(chat: ChatPage, question: str) -> None:
    box = chat.compare.locator("#phi3-compare-message")
    box.fill(question)
    box.press("Enter")
    expect(box).to_have_value("", timeout=LOAD)


def wait_for_end(chat: ChatPage) -> None:
    expect(chat.compare.locator(".round").last.locator(".state")).to_have_text(["finished"] * 2, timeout=LOAD)


def expect_to_fit(page: Page, view: Locator) -> None:
    """Check accessibility and overflow at both widths, ending with the phone's."""
    for size in (DESKTOP, PHONE):
        page.set_viewport_size(size)
        assert find_violations(page) == []
        assert not view.evaluate("(view) => view.scrollWidth > view.clientWidth")


def test_a_blind_round_from_the_question_to_the_vote(app: App, new_visitor: NewVisitor) -> None:
    gates = [model.create_gate() for model in (app.model, app.other)]
    app.model.enqueue(Reply(FIRST[:60], gates[0], FIRST[60:]))
    app.other.enqueue(Reply(SECOND[:70], gates[1], SECOND[70:]))
    visitor = new_visitor(viewport=PHONE)
    visitor.add_init_script(RECORD_TRAFFIC)
    chat = open_chat(visitor, app.server)
    page, view = chat.page, chat.compare
    open_comparison(chat)
    expect_to_fit(page, view)
    sent_before = read_traffic(page)
    ask(chat, QUESTION)

    for gate in gates:
        gate.wait_until_reached()
    sides = view.locator(".side")
    expect(sides.locator(".phi3-written").first).to_contain_text(re.compile("Because the|Electrons are"), timeout=LOAD)
    lengths = [len(text) for text in sides.locator(".phi3-written").all_inner_texts()]
    assert max(lengths) <= 48, "both sides wait for the slower one"
    expect_to_fit(page, view)
    gates[0].open()
    expect(view.locator(".state")).to_have_text(["streaming …"] * 2)
    gates[1].open()
    wait_for_end(chat)
    expect(view.locator(".vote button")).to_have_text([re.compile(text) for text in ("A is", "B is", "Tie", "Both")])
    texts = sides.locator(".phi3-written").all_inner_texts()
    assert sorted(texts) == sorted([FIRST, SECOND])
    assert not NAMES.search(sides.first.evaluate("(side) => side.closest('.rounds').outerHTML"))
    sent = read_traffic(page)
    rounds = [text for text in sent if text.startswith("round: ")]
    assert rounds
    assert not [text for text in rounds if re.search(r'"(model|metrics|badge|standing)"', text)]
    assert {text for text in sent if NAMES.search(text)} <= sent_before, "names appear only in the menus"
    expect(view.locator(".vote button").first).to_be_focused()
    expect_to_fit(page, view)

    meter = view.get_by_role("meter")
    expect(meter).to_have_attribute("aria-valuetext", re.compile("^about .* after the vote$"))

    page.keyboard.type("3 more")  # a question that begins with a digit is not a vote
    expect(view.locator("#phi3-compare-message")).to_have_value("3 more")
    expect(view.locator(".vote button")).to_have_count(4)
    view.locator("#phi3-compare-message").fill("")
    view.locator(".vote button").first.focus()

    winner = texts.index(FIRST)
    page.keyboard.press(str(winner + 1))
    expect(view.locator(".voted")).to_have_text(f"You voted: {'AB'[winner]} is better.")
    expect(sides.nth(winner).locator(".model")).to_have_text("scripted-one")
    expect(sides.nth(1 - winner).locator(".model")).to_have_text("scripted-two")
    expect(sides.nth(winner).locator(".metrics")).to_have_text(
        re.compile(r"\d+ in · \d+ out · first token .* tokens/s")
    )
    expect(view.locator(".vote")).to_have_count(0)
    expect(meter).to_have_attribute("aria-valuetext", re.compile(r"^[\d,]+ of 8,192 tokens$"))
    expect_to_fit(page, view)

    def read_votes() -> dict[str, object]:
        traces = app.traces(2, chat)
        return {
            trace.info.trace_metadata["phi3_ui.place"]: assessment.feedback.value
            for trace in traces
            for assessment in trace.info.assessments
            if assessment.feedback
        }

    wait_until(lambda: read_votes() == {str(winner): "won", str(1 - winner): "lost"})

    view.get_by_role("button", name="Ratings").click()
    ratings = page.locator("#phi3-ratings")
    expect(ratings.get_by_role("heading", name="Ratings")).to_be_focused()
    expect(ratings.locator(".board .few")).to_have_text(["too few votes"] * 2)
    expect(ratings.locator('[aria-label="scripted-one against scripted-two: 100% of 1"]')).to_be_visible()
    expect_to_fit(page, ratings.locator(".phi3-view-body"))
    ratings.get_by_label("Time").focus()
    ratings.get_by_label("Time").select_option("Last 24 hours")
    expect(ratings.get_by_label("Time")).to_be_focused()
    page.keyboard.press("Escape")
    expect(ratings).to_be_hidden()
    expect(view.locator(".voted")).to_be_visible()
    view.get_by_role("button", name="Ratings").click()
    ratings.locator(".rated").get_by_role("button", name=QUESTION).click()
    expect(ratings).to_be_hidden()
    expect(view.locator(".voted")).to_be_visible()


def test_a_round_survives_a_reload_and_ends_with_escape(app: App, open_page: OpenPage) -> None:
    gates = [model.create_gate() for model in (app.model, app.other)]
    for model, gate in zip((app.model, app.other), gates, strict=True):
        model.enqueue(Reply(FIRST[:60], gate, FIRST[60:]), Reply(SECOND, model.create_gate(), "."))
    chat = open_page(locale="ro-RO")
    page, view = chat.page, chat.compare
    expect(page.locator("#phi3-right")).to_be_visible()
    open_comparison(chat, "Compară")
    expect(page.locator("#phi3-right")).to_be_hidden()
    ask(chat, QUESTION)
    for gate in gates:
        gate.wait_until_reached()
    page.reload()  # not `chat.reload()`: the view hides what that waits for
    expect(view.locator(".question")).to_have_text(QUESTION, timeout=LOAD)
    expect(view.locator(".state")).to_have_text(["se scrie …"] * 2)
    for gate in gates:
        gate.open()
    expect(view.locator(".state")).to_have_text(["încheiat"] * 2, timeout=LOAD)
    expect(view.locator(".phi3-written")).to_have_text([FIRST] * 2)

    ask(chat, "De ce?")
    expect(view.locator(".round").last.locator(".phi3-written").first).to_contain_text("Electrons", timeout=LOAD)
    page.keyboard.press("Escape")
    expect(view.locator(".round").last.locator(".state")).to_have_text(["oprit"] * 2, timeout=LOAD)
    view.get_by_role("button", name="Gata").click()
    expect(view).to_be_hidden()
    expect(page.locator("#phi3-right")).to_be_visible()
    expect(chat.chats).to_have_count(1)
    chat.list_button(QUESTION[:20], "save_json").click()
    expect(page.get_by_text("Votați mai întâi")).to_be_visible()
    chat.chats.first.click()
    expect(view.locator(".round")).to_have_count(2)
    assert not NAMES.search(view.locator(".rounds").evaluate("(rounds) => rounds.outerHTML"))
    view.locator(".round").first.get_by_role("button", name="Egalitate").click()
    expect(view.locator(".voted")).to_have_text("Ați votat: egalitate.")
    expect(view.locator(".round").first.locator(".model")).to_have_count(2)
    expect(view.locator(".round").last.locator(".model").first).to_be_empty()


def test_kill_9_neither_loses_nor_duplicates_a_vote(
    scripted_store: ScriptedStore, new_visitor: NewVisitor, tmp_path: Path
) -> None:
    home, port = scripted_store.copy_to(tmp_path), find_free_port()
    for model in (scripted_store.model, scripted_store.other):
        model.reset()
    with serve(home, home / "before.log", port=port) as server:
        chat = open_chat(new_visitor(), server)
        open_comparison(chat)
        ask(chat, QUESTION)
        wait_for_end(chat)
        chat.page.keyboard.press("1")
        expect(chat.compare.locator(".voted")).to_have_text("You voted: A is better.")
        ask(chat, "And why?")
        wait_for_end(chat)
        chat.page.keyboard.press("3")  # may or may not reach the server
        server.process.kill()
        server.process.wait()
    with serve(home, home / "after.log", port=port) as server:
        chat.page.goto(server.url)  # do not wait until the page reloads itself
        expect(chat.compare.locator(".round")).to_have_count(2, timeout=LOAD)
        first, second = chat.compare.locator(".round").all()
        expect(first.locator(".voted")).to_have_text("You voted: A is better.")
        if not second.locator(".voted").count():
            chat.compare.get_by_role("button", name="Tie").click()
        expect(second.locator(".voted")).to_have_text("You voted: tie.")
        expect(chat.compare.locator(".vote")).to_have_count(0)

        def list_votes() -> list[list[str]]:
            return sorted(
                [str(assessment.feedback.value) for assessment in trace.info.assessments if assessment.feedback]
                for trace in find_traces(home)
            )

        wait_until(lambda: list_votes() == [["lost"], ["tie"], ["tie"], ["won"]])


def test_the_votes_of_two_visitors_are_kept_apart(app: App, open_page: OpenPage) -> None:
    anna, ben = open_page(), open_page()
    votes = {"What does Anna ask?": (anna, "A is better"), "What does Ben ask?": (ben, "Tie")}
    for question, (chat, _) in votes.items():
        open_comparison(chat)
        ask(chat, question)
    for chat, choice in votes.values():
        wait_for_end(chat)
        chat.compare.get_by_role("button", name=choice).click()
        expect(chat.compare.locator(".voted")).to_be_visible()
    for question, (chat, _) in votes.items():
        chat.compare.get_by_role("button", name="Ratings").click()
        ratings = chat.page.locator("#phi3-ratings")
        for scope in ("Me", "Everyone"):
            ratings.get_by_label("Votes by").select_option(scope)
            expect(ratings.locator(".rated button").filter(has_text="ask?")).to_have_text([question])

    def list_votes(chat: ChatPage) -> list[str]:
        assessments = [assessment for trace in app.traces(2, chat) for assessment in trace.info.assessments]
        return sorted(str(assessment.feedback.value) for assessment in assessments if assessment.feedback)

    wait_until(lambda: list_votes(anna) == ["lost", "won"])
    wait_until(lambda: list_votes(ben) == ["tie", "tie"])
    sources = {
        assessment.source.source_id
        for chat in (anna, ben)
        for trace in app.traces(2, chat)
        for assessment in trace.info.assessments
    }
    assert len(sources) == 2
