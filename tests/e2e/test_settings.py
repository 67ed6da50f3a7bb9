"""Tests for the Settings tab: presets, system prompts, marks on changed values, and per-chat settings."""

from playwright.sync_api import expect

from tests.e2e.conftest import App, OpenPage
from tests.support.chat_page import ChatPage

PHONE = {"width": 390, "height": 844}


def test_presets_mark_changed_values_and_reset_all_reverts_them(app: App, chat: ChatPage) -> None:
    chat.show_tab("settings")
    settings = chat.page.locator("#phi3-settings")
    presets = settings.get_by_role("group", name="Parameter preset")
    marks, reset = settings.locator("[data-changed]"), settings.get_by_role("button", name="Reset all")
    pressed = presets.locator('[aria-pressed="true"]')
    expect(pressed).to_have_text("Balanced")
    expect(marks).to_have_count(0)
    expect(reset).to_be_disabled()

    presets.get_by_role("button", name="Precise").click()
    expect(pressed).to_have_text("Precise")
    expect(settings.get_by_label("Temperature").first).to_have_value("0")
    expect(marks).to_have_text(["Temperature", "Top-p", "Top-k"])
    chat.answer("One?")
    assert app.model.requests[-1].params["temperature"] == 0

    chat.set_setting("Temperature", 0.55)
    expect(pressed).to_have_text("Custom")
    presets.get_by_role("button", name="Creative").click()
    expect(pressed).to_have_text("Creative")
    presets.get_by_role("button", name="Custom").click()
    expect(settings.get_by_label("Temperature").first).to_have_value("0.55")
    reset.click()
    expect(pressed).to_have_text("Balanced")
    expect(marks).to_have_count(0)
    expect(settings.get_by_label("Stop strings")).to_be_disabled()
    expect(settings).to_contain_text("Not supported by this model")
    expect(settings).not_to_contain_text("(n)")


def test_system_prompts_are_chosen_saved_and_deleted(app: App, open_page: OpenPage) -> None:
    chat = open_page(viewport=PHONE)
    chat.show_tab("settings")
    page, select = chat.page, chat.page.get_by_label("Prompt preset")
    field, button = page.locator("#phi3-set-system textarea"), page.locator("#phi3-system-button")
    select.select_option(label="Stand-up comedian")
    expect(field).to_have_value("You are a stand-up comedian. Answer every question with a short, good-natured joke.")
    expect(button).to_have_attribute("aria-label", "System prompt: Stand-up comedian")
    expect(page.get_by_role("button", name="Save as preset")).to_be_disabled()

    field.fill("Answer in rhymes.")
    expect(button).to_have_attribute("aria-label", "System prompt: Custom system prompt")
    page.get_by_role("button", name="Save as preset").click()
    page.get_by_label("Name of the preset").fill("Poet")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(button).to_have_attribute("aria-label", "System prompt: Poet")
    select.select_option(label="No system prompt")
    expect(field).to_have_value("")
    chat.reload()
    expect(page.locator("#phi3-right")).to_have_attribute("data-tab", "settings")
    chat.show_tab("settings")
    select.select_option(label="Poet")
    expect(field).to_have_value("Answer in rhymes.")

    page.evaluate(
        "() => { Storage.prototype.setItem = () => { throw new DOMException('full', 'QuotaExceededError'); }; }"
    )
    page.get_by_role("button", name="Delete this preset").click()
    expect(page.locator("#phi3-system-presets [role=alert]")).to_contain_text("does not let the page save presets")
    expect(select).to_have_value("saved:Poet")
    expect(field).to_have_value("Answer in rhymes.")


def test_opening_a_chat_restores_the_settings_of_its_last_question(app: App, chat: ChatPage) -> None:
    chat.set_setting("Temperature", 1.5)
    chat.set_setting("System prompt", "Be brief.")
    chat.answer("The first?")
    chat.start_new_chat()
    expect(chat.page.locator("#phi3-settings [data-changed]")).to_have_count(0)
    chat.answer("Two?")
    assert app.model.requests[-1].messages == [{"role": "user", "content": "Two?"}]

    chat.chats.filter(has_text="The first?").click()
    expect(chat.questions).to_have_text(["The first?"])
    expect(chat.page.locator("#phi3-set-system textarea")).to_have_value("Be brief.")
    chat.answer("And now?")
    request = app.model.requests[-1]
    assert request.messages[0] == {"role": "system", "content": "Be brief."}
    assert request.params["temperature"] == 1.5


def test_numbers_are_formatted_and_parsed_in_the_language_of_the_page(app: App, open_page: OpenPage) -> None:
    chat = open_page(locale="ro-RO")
    chat.show_tab("settings")
    control = chat.page.locator("#phi3-set-temperature")
    field, slider = control.get_by_role("textbox"), control.get_by_role("slider")
    expect(field).to_have_value("0,2")
    for typed, shown in (("0,55", "0,55"), ("5", "2"), ("warm", "2"), ("", "2"), ("0.3", "0,3")):
        field.fill(typed)
        field.press("Enter")
        expect(field).to_have_value(shown)
        expect(slider).to_have_value(shown.replace(",", "."))
    field.press("ArrowUp")
    expect(field).to_have_value("0,35")
    field.fill("1,1")
    field.press("ArrowDown")  # starting from the typed value
    expect(field).to_have_value("1,05")
    field.fill("0,35")
    field.press("Enter")
    slider.press("ArrowRight")
    expect(field).to_have_value("0,4")
    tokens = chat.page.locator("#phi3-set-max_tokens").get_by_role("textbox")
    for typed, shown in (("1.024", "1024"), ("2,5", "3"), ("9.999", "4096")):
        tokens.fill(typed)
        tokens.press("Tab")
        expect(tokens).to_have_value(shown)
    chat.answer("One?")
    params = app.model.requests[-1].params
    assert (params["temperature"], params["max_tokens"]) == (0.4, 4096)

    # An out-of-range value is rejected in the page's language; once it is corrected, the same question is sent.
    top_k = chat.page.locator("#phi3-set-top_k input")
    top_k.fill("-1")
    top_k.press("Tab")
    chat.message.fill("Two?")
    chat.message.press("Enter")
    expect(chat.page.get_by_test_id("toast-body")).to_contain_text("Top-k nu poate fi -1.")
    top_k.fill("5")
    top_k.press("Tab")
    chat.message.press("Enter")
    chat.wait_for_caption(2)
    assert app.model.requests[-1].params["top_k"] == 5
