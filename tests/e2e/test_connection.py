"""Lost connections, reloads and closed tabs while answers are in progress."""

from playwright.sync_api import Browser, expect

from phi3_ui.testing import Reply
from tests.e2e.conftest import DESKTOP, App, NewVisitor, OpenPage, open_chat
from tests.support.app_server import wait_for_traces
from tests.support.chat_page import LOAD, ChatPage
from tests.support.tcp_proxy import proxy_to

HOLD_EVENT_IDS = """
const originalFetch = fetch;
const counts = new Map();  // event id → messages
let notify;
globalThis.fetch = async (...args) => {
  const response = await originalFetch(...args);
  const { pathname } = new URL(response.url);
  if (pathname.endsWith("/queue/join") && globalThis.heldText && args[1].body.includes(heldText)) {
    const { event_id: id } = await response.clone().json();
    while ((counts.get(id) ?? 0) < 2) await new Promise((resolve) => notify = resolve);
  }
  if (!pathname.endsWith("/queue/data")) return response;
  const count = (text, controller) => {
    for (const [, id] of text.matchAll(/"process_generating","event_id":"(\\w+)"/g)) counts.set(id, (counts.get(id) ?? 0) + 1);
    controller.enqueue(text);
    notify?.();
  };
  const texts = response.body.pipeThrough(new TextDecoderStream()).pipeThrough(new TransformStream({ transform: count }));
  return new Response(texts.pipeThrough(new TextEncoderStream()), response);
};"""
"""Withholds the id of the event that sends `heldText` until the stream has delivered two of its messages."""

SEA, MOON = "Write a story about the sea.", "Write a story about the moon."


def test_an_answer_continues_while_the_connection_is_lost(app: App, browser: Browser) -> None:
    first, second, moon = (app.model.create_gate() for _ in range(3))
    app.model.enqueue(
        Reply("One moon. ", moon, "Two moons.", question=MOON),
        Reply("Once upon ", first, "a time ", second, "there was a sea.", question=SEA),
    )
    # Not created by `new_visitor`, which fails the test for errors: the page may log failed requests.
    with proxy_to(app.server.url) as proxy, browser.new_context(viewport=DESKTOP) as context:
        page = context.new_page()
        page.goto(proxy.url)
        chat = ChatPage(page).wait_until_ready()
        chat.ask(MOON)
        chat.wait_for_text()
        chat.start_new_chat()
        chat.ask(SEA)
        chat.wait_for_text()
        chat.message.fill("And the next")
        proxy.cut()
        expect(page.get_by_text("Connection to the server was lost")).to_be_visible()
        first.open()
        second.wait_until_reached()
        with page.expect_navigation():
            proxy.restore()
        expect(chat.answers.last).to_have_text("Once upon a time")
        expect(chat.stop).to_be_visible()
        expect(chat.message).to_have_value("And the next")
        second.open()
        chat.wait_for_caption(1)
        expect(chat.answers.last).to_have_text("Once upon a time there was a sea.")
        expect(chat.captions.last).not_to_contain_text("stopped")
        # The background chat continued, too; opening it shows the rest of its answer.
        chat.chats.filter(has_text=MOON).click()
        expect(chat.answers.last).to_have_text("One moon.")
        moon.open()
        chat.wait_for_caption(1)
        expect(chat.answers.last).to_have_text("One moon. Two moons.")
        assert [request.question for request in app.model.requests] == [MOON, SEA]


def test_stop_pressed_while_the_connection_is_lost_ends_the_answer(app: App, browser: Browser) -> None:
    app.model.enqueue(Reply("wave ", endless=True, seconds_per_token=0.05))
    with proxy_to(app.server.url) as proxy, browser.new_context(viewport=DESKTOP) as context:
        page = context.new_page()
        page.goto(proxy.url)
        chat = ChatPage(page).wait_until_ready()
        chat.set_setting("Max tokens", 4000)
        chat.ask(SEA)
        chat.wait_for_text()
        proxy.cut()
        expect(page.get_by_text("Connection to the server was lost")).to_be_visible()
        chat.stop.click()
        with page.expect_navigation():
            proxy.restore()
        chat.wait_for_caption(1)
        expect(chat.captions.last).to_contain_text("stopped")
        # The click is applied only once: the next answer is not stopped.
        assert chat.answer("And now?") == "And now?"


def test_no_update_is_lost_when_an_events_messages_arrive_before_its_id(app: App, new_visitor: NewVisitor) -> None:
    moon, sea = app.model.create_gate(), app.model.create_gate()
    app.model.enqueue(
        Reply("One moon. ", moon, "Two moons.", question=MOON), Reply("Once ", sea, "more.", question=SEA)
    )
    visitor = new_visitor()
    visitor.add_init_script(HOLD_EVENT_IDS)
    chat = open_chat(visitor, app.server)
    chat.ask(MOON)  # keeps the stream open
    chat.wait_for_text()
    chat.start_new_chat()
    chat.page.evaluate("text => { globalThis.heldText = text; }", SEA)
    chat.ask(SEA)
    expect(chat.answers.last).to_have_text("Once")
    expect(chat.stop).to_be_visible()


def test_a_reloaded_page_continues_the_answer(app: App, open_page: OpenPage) -> None:
    gate = app.model.create_gate()
    app.model.enqueue(Reply("Once upon ", gate, "a time."))
    chat = open_page()
    chat.ask(SEA)
    chat.wait_for_text()
    for _ in range(2):
        chat.reload()
        expect(chat.answers.last).to_have_text("Once upon")
    chat.stop.click()
    chat.wait_for_caption(1)
    expect(chat.captions.last).to_contain_text("stopped")
    gate.open()
    assert chat.answer("And now?") == "And now?"
    assert [request.question for request in app.model.requests] == [SEA, "And now?"]

    # A page that shows a replay continues, too.
    gate = app.model.create_gate()
    app.model.enqueue(Reply("Once more ", gate, "a time."))
    comparison = chat.start_replay()
    gate.wait_until_reached()
    chat.page.reload()  # not `chat.reload()`: the view hides what that waits for
    expect(comparison.locator(".question")).to_have_text([SEA, "And now?"], timeout=LOAD)
    gate.open()
    expect(comparison).to_contain_text("The replay is saved as a separate chat.", timeout=LOAD)
    expect(comparison).to_contain_text("Once more a time.")
    assert [request.question for request in app.model.requests[2:]] == [SEA, "And now?"]


def test_closing_a_tab_stops_only_its_own_answer(app: App, open_page: OpenPage) -> None:
    gate = app.model.create_gate()
    app.model.enqueue(
        Reply("wave ", endless=True, seconds_per_token=0.05, question=SEA),
        Reply("One moon. ", gate, "Two moons.", question=MOON),
    )
    closing, staying = open_page(), open_page()
    closing.set_setting("Max tokens", 4000)
    closing.ask(SEA)
    staying.ask(MOON)
    closing.wait_for_text()
    staying.wait_for_text()
    chats = closing.chat_ids()
    closing.page.close()
    (trace,) = wait_for_traces(app.server.home, chats, 1)
    assert trace.data.spans[0].outputs["choices"][0]["finish_reason"] == "cancelled"
    gate.open()
    staying.wait_for_caption(1)
    expect(staying.answers.last).to_have_text("One moon. Two moons.")
