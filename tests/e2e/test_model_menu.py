"""Tests for the model menu: opening, filtering and keyboard navigation, at two widths."""

from playwright.sync_api import expect

from phi3_ui.ui.asset_urls import STATIC_URL
from tests.e2e.conftest import App, OpenPage
from tests.support.chat_page import ChatPage

SHOW_MANY_MODELS = """(count) => {
  const rows = Array.from({ length: count }, (_, index) => ({
    key: `m-${index}`, model: `m-${index}`, name: `model-${index}`, facts: ["ONNX", "8k context"], chips: [],
  }));
  return import("./STATIC/models/menu.js").then((menu) => {
    const element = document.createElement("div");
    document.querySelector("#phi3-models").remove();
    document.querySelector("#phi3-header").append(element);
    const texts = { "models.choose": "Choose", "models.filter": "Filter", "models.none_found": "None", add: "Add" };
    menu.default({ element, props: { value: [{ name: "many", rows }] }, watch: () => {}, texts });
  });
}""".replace("STATIC", STATIC_URL)


def test_a_model_can_be_picked_with_the_keyboard_alone(app: App, chat: ChatPage) -> None:
    chat.page.set_viewport_size({"width": 1440, "height": 900})
    for answers, width in enumerate((1440, 390), 1):
        chat.page.set_viewport_size({"width": width, "height": 844})
        pick_by_keyboard(chat.pick("scripted-one"))
        chat.wait_for_caption(chat.ask("Who are you?"))
        assert len(app.other.requests) == answers


def pick_by_keyboard(chat: ChatPage) -> None:
    """Exercise the menu by keyboard with scripted-one selected, and pick scripted-two."""
    press, status = chat.page.keyboard.press, chat.status.locator(".phi3-model-name")
    active = chat.models.locator(".active")

    chat.model.focus()
    press("Enter")
    expect(chat.models.get_by_role("combobox")).to_be_focused()
    expect(chat.model).to_have_attribute("aria-expanded", "true")
    expect(chat.models.get_by_role("option", selected=True)).to_contain_text("scripted-one")
    expect(active).to_contain_text("scripted-one")
    expect(chat.models.locator(".phi3-dot.loaded").first).to_be_visible()
    chat.page.keyboard.type("scripted TWO")
    expect(active).to_contain_text("scripted-two")
    expect(chat.models.get_by_role("option", name="scripted-one")).to_have_count(0)
    expect(status).to_have_text("scripted-one")
    chat.page.keyboard.type(" no such")
    expect(chat.models.get_by_role("status")).to_have_text("No model matches.")
    press("Enter")
    expect(chat.models).to_be_visible()
    press("Escape")
    expect(chat.models).to_be_hidden()
    expect(chat.model).to_be_focused()
    expect(status).to_have_text("scripted-one")

    press("Enter")
    rows = chat.models.get_by_role("option")
    press("End")
    expect(rows.last).to_have_class("active")
    press("Home")
    expect(rows.first).to_have_class("active")
    press("ArrowDown")
    expect(rows.nth(1)).to_have_class("active")
    press("ArrowUp")
    chat.page.keyboard.type("two")
    press("Enter")
    expect(chat.models).to_be_hidden()
    expect(chat.model).to_be_focused()
    expect(status).to_have_text("scripted-two")
    chat.wait_until_loaded()


def test_a_thousand_models_are_listed_as_soon_as_the_menu_opens(app: App, open_page: OpenPage) -> None:
    chat = open_page()
    chat.page.evaluate(SHOW_MANY_MODELS, 1000)
    chat.model.click()
    assert chat.models.get_by_role("option").count() == 1000
    chat.page.keyboard.press("End")
    expect(chat.models.locator(".active")).to_contain_text("model-999")
    expect(chat.models.locator(".active")).to_be_in_viewport()


def test_the_add_model_dialog_traps_the_focus_and_restores_it(app: App, chat: ChatPage) -> None:
    press, dialog = chat.page.keyboard.press, chat.add_dialog.get_by_role("dialog", name="Add a model")
    chat.open_models()
    press("End")
    press("ArrowDown")
    press("Enter")
    expect(chat.models).to_be_hidden()
    demo, custom = dialog.get_by_label("SmolLM2 135M Instruct"), dialog.get_by_label("Custom weights")
    expect(demo).to_be_focused()
    expect(dialog.get_by_label("Phi-3 mini 4K Instruct")).to_be_visible()
    expect(dialog).to_contain_text("mit")
    expect(dialog.get_by_role("textbox", name="Source A Hub id")).to_be_hidden()
    for _ in range(12):
        press("Tab")
        assert dialog.evaluate("(box) => box.contains(document.activeElement)")
    demo.focus()
    press("ArrowUp")
    expect(dialog.get_by_label("Remote server")).to_be_checked()
    expect(dialog.get_by_role("textbox", name="Address")).to_be_visible()
    press("ArrowUp")
    expect(custom).to_be_checked()
    expect(dialog.get_by_role("textbox", name="Address")).to_be_hidden()
    dialog.get_by_role("textbox", name="Source A Hub id").fill("owner/name")
    press("Escape")
    expect(dialog).to_be_hidden()
    expect(chat.model).to_be_focused()
    chat.open_add_model()
    expect(dialog.get_by_role("textbox", name="Source A Hub id")).to_have_value("owner/name")
    dialog.get_by_role("button", name="Close").click()
    expect(dialog).to_be_hidden()
    expect(chat.model).to_be_focused()


def test_the_menu_can_be_reopened_as_soon_as_a_model_is_picked(app: App, open_page: OpenPage) -> None:
    chat = open_page().pick("scripted-one")
    # Give all clicks the same timestamp.
    chat.page.evaluate("() => Object.defineProperty(Event.prototype, 'timeStamp', { get: () => 1000 })")
    chat.pick("scripted-two")
    chat.pick("scripted-one")
