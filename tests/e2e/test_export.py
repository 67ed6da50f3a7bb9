"""Exporting and importing chats."""

import json
import re
import zipfile
from pathlib import Path

from playwright.sync_api import Locator, expect

from phi3_ui.testing import Reply
from tests.e2e.conftest import App, OpenPage
from tests.support.app_server import wait_until
from tests.support.chat_page import ChatPage

FRANCE, SPAIN = "What is the capital of France?", "And what is the capital of Spain?"


def download_file(chat: ChatPage, item: Locator, folder: Path) -> Path:
    """Click a menu item that downloads a file, and return the file's path in `folder`."""
    with chat.page.expect_download() as download:
        item.click()
    file = folder / download.value.suggested_filename
    download.value.save_as(file)
    return file


def test_saved_chats_can_be_imported_with_variants_and_feedback(app: App, open_page: OpenPage, tmp_path: Path) -> None:
    app.model.enqueue(Reply("Paris."), Reply("It is Paris.", usage=(30, 16)))
    chat = open_page()
    chat.answer(FRANCE)
    chat.press("bad")
    expect(chat.action_buttons("bad")).to_have_attribute("aria-pressed", "true")
    chat.press("retry")
    chat.wait_for_caption(1)
    expect(chat.variants).to_have_text(re.compile("2/2"))
    expect(chat.answers).to_have_text(["It is Paris."])
    texts = chat.texts()

    markdown = download_file(chat, chat.list_button(FRANCE, "save_markdown"), tmp_path).read_text(encoding="utf-8")
    saved = download_file(chat, chat.list_button(FRANCE, "save_json"), tmp_path)
    archive = download_file(chat, chat.footer_item("share", "Export all chats"), tmp_path)
    assert FRANCE in markdown
    content = json.loads(saved.read_text(encoding="utf-8"))
    assert [message["role"] for message in content["messages"]] == ["user", "assistant"]
    assert content["messages"][1]["usage"]["completion_tokens"] == 16
    with zipfile.ZipFile(archive) as packed:
        assert sorted(Path(name).suffix for name in packed.namelist()) == [".json", ".md"]

    other = open_page()
    for count, file in enumerate((saved, archive), start=1):
        other.import_file(file)
        expect(other.chats).to_have_count(count)
        expect(other.questions).to_have_text([FRANCE])
        assert other.texts() == texts
        other.press("show", 0)
        expect(other.action_buttons("bad")).to_have_attribute("aria-pressed", "true")
        other.start_new_chat()
    traces = app.traces(6, chat, other)
    assert len({trace.info.trace_metadata["mlflow.trace.user"] for trace in traces}) == 2
    wait_until(lambda: sum(len(trace.info.assessments) for trace in app.traces(6, chat, other)) == 3)


def test_a_file_without_a_readable_chat_is_refused(open_page: OpenPage, tmp_path: Path) -> None:
    broken = tmp_path / "broken.json"
    broken.write_text('{"messages": 3}', encoding="utf-8")
    chat = open_page()
    chat.import_file(broken)
    expect(chat.page.get_by_text("contains no readable chat")).to_be_visible()
    expect(chat.chats).to_have_count(0)


def test_chats_from_another_program_are_imported_and_skipped_ones_listed(open_page: OpenPage, tmp_path: Path) -> None:
    messages = [{"from": "human", "value": FRANCE}, {"from": "gpt", "value": "Paris."}]
    chats = [
        {"title": "Țări", "conversations": messages},
        {"title": "Picture", "conversations": messages, "images": ["a.png"]},
    ]
    file = tmp_path / "sharegpt.json"
    file.write_text(json.dumps(chats), encoding="utf-8")
    chat = open_page()

    chat.import_file(file)

    panel = chat.page.locator("#phi3-import")
    expect(panel.get_by_role("status")).to_have_text("1 chat imported. 1 question.")
    expect(panel).to_contain_text("1 chat was not imported.")
    expect(panel.get_by_role("listitem")).to_have_text(
        ["chat 2 “Picture”: chat.images cannot be imported: only text can"]
    )
    expect(chat.questions).to_have_text([FRANCE])
    expect(chat.answers).to_have_text(["Paris."])
    panel.get_by_role("button", name="Close").click()
    expect(panel.get_by_role("listitem")).to_be_hidden()
    chat.search.fill("TARI")
    expect(chat.chats).to_have_text([re.compile("Țări")])
    chat.search.fill("tarif")
    expect(chat.chats).to_have_count(0)


def test_a_file_that_is_too_large_is_refused_before_it_is_sent(open_page: OpenPage, tmp_path: Path) -> None:
    huge = tmp_path / "huge.json"
    with huge.open("wb") as file:
        file.truncate(201_000_000)
    chat = open_page()
    sent = list[str]()
    chat.page.on("request", lambda request: sent.append(request.url))
    chat.import_file(huge)
    expect(chat.page.locator("#phi3-import").get_by_role("alert")).to_contain_text("larger than 200 MB")
    assert not [url for url in sent if url.endswith("/import")]


def test_a_running_import_is_shown_after_a_reload_and_can_be_cancelled(
    app: App, open_page: OpenPage, tmp_path: Path
) -> None:
    messages = [{"role": role, "content": "word"} for _ in range(2000) for role in ("user", "assistant")]
    file = tmp_path / "many.json"
    file.write_text(
        json.dumps([{"title": f"Chat {number}", "messages": messages} for number in range(4)]), encoding="utf-8"
    )
    chat = open_page()
    panel = chat.page.locator("#phi3-import")

    chat.import_file(file)
    expect(panel.get_by_role("status")).to_have_text("Importing chats")
    expect(panel.get_by_role("progressbar")).to_be_visible()
    chat.page.reload()
    expect(panel.get_by_role("status")).to_have_text("Importing chats")
    chat.import_file(file)
    expect(panel.get_by_role("alert")).to_contain_text("A file is already being imported.")
    expect(panel.get_by_role("progressbar")).to_be_visible()
    app.model.enqueue(Reply("Paris."))
    chat.answer(FRANCE)  # not blocked by the import
    panel.get_by_role("button", name="Cancel").click()
    expect(panel).to_contain_text("The import was cancelled.")
    expect(chat.questions).to_have_text([FRANCE])
