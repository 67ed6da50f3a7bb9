"""Tests that markup and scripts from users, models and files are shown as text and never run."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from mlflow import MlflowClient
from playwright.sync_api import Page, expect

from phi3_ui.store.registry.catalogue import Catalogue
from phi3_ui.testing import Reply, ScriptedModel, log_scripted_model
from tests.e2e.conftest import NewVisitor, ScriptedStore, open_chat
from tests.e2e.test_compare import ask, open_comparison, wait_for_end
from tests.e2e.test_composer import attach
from tests.e2e.test_export import download_file
from tests.support.app_server import Server, serve
from tests.support.chat_page import ChatPage
from tests.support.trust import approve_models

PAYLOADS = [
    "<script>report(1)</script>",
    "<img src=x onerror=report(2)>",
    "<svg onload=report(3)>",
    "<svg><animate onbegin=report(4) attributeName=x dur=1s>",
    "<details open ontoggle=report(5)>",
    "<input autofocus onfocus=report(6)>",
    '<iframe srcdoc="<script>parent.report(7)</script>"></iframe>',
    '"><img src=x onerror="report(8)"><"',
    "'><img src=x onerror='report(9)'><'",
    "</textarea></title></style></script><img src=x onerror=report(10)>",
    '<math><mtext><table><mglyph><style><!--</style><img title="--&gt;&lt;img src=1 onerror=report(11)&gt;">',
    "<!--><img src=x onerror=report(12)>-->",
    '<form id="phi3-chat"><input name="attributes"></form><a id=globalThis></a>',
    '<base href="https://evil.example/"><meta http-equiv="refresh" content="0;url=javascript:report(13)">',
    '<link rel=stylesheet href="https://evil.example/x.css"><style>@import "https://evil.example/y.css";</style>',
    "${report(14)} {{constructor.constructor('report(15)')()}} <%= report(16) %> #{report(17)}",
    "[link](javascript:report(18)) [link](JaVa&#10;ScRiPt:report(19)) <javascript:report(20)>",
    "[link](data:text/html,<script>report(21)</script>) [link](vbscript:report(22))",
    '![image](https://evil.example/a.png) ![image](x"onerror=report(23)) ![image](/logout)',
    "[a]: javascript:report(24)\n\n[a] and <a href=javascript:report(25)>click</a>",
    "```<img src=x onerror=report(26)>\n<img src=x onerror=report(27)>\n```\n\n`<img src=x onerror=report(28)>`",
    "$\\href{javascript:report(29)}{x}$ $\\includegraphics{https://evil.example/b.png}$ $\\htmlStyle{x:y}{z}$",
    "| <img src=x onerror=report(30)> |\n|---|\n| <svg onload=report(31)> |",
    "\u2028<img src=x onerror=report(32)>\u0000<scr\u0000ipt>report(33)</script>",
]
ALL = "\n\n".join(PAYLOADS)
LINE = " ".join(PAYLOADS[:16]).replace("\n", " ")
NAME = """<img src=x onerror="report(40)"><svg onload='report(41)'>${report(42)}"><script>report(43)</script>"""

# Reports CSP violations, and elements with event handlers or script URLs, even if they exist only briefly.
WATCH = """
document.addEventListener("securitypolicyviolation", (event) => report(`stopped: ${event.violatedDirective} ${event.sample}`));
new MutationObserver((changes) => {
  for (const added of changes.flatMap(({ addedNodes }) => [...addedNodes])) {
    if (added.nodeType !== Node.ELEMENT_NODE) continue;
    for (const element of [added, ...added.querySelectorAll("*")]) {
      const names = element.getAttributeNames().filter((name) => /^on|^srcdoc$|^http-equiv$/.test(name));
      const target = element.getAttribute("href") ?? element.getAttribute("src") ?? "";
      if (names.length || /^\\s*(javascript|vbscript|data:text|x$)/i.test(target)) report(`element: ${element.outerHTML}`);
    }
  }
}).observe(document, { childList: true, subtree: true });
"""


@dataclass
class AttackedPage:
    """A page whose app is full of markup, with the reports and requests that the markup caused."""

    chat: ChatPage
    model: ScriptedModel
    reports: list[str]
    requested_urls: list[str]

    @property
    def page(self) -> Page:
        return self.chat.page


@pytest.fixture
def attacked(new_visitor: NewVisitor, scripted_store: ScriptedStore, tmp_path: Path) -> Iterator[AttackedPage]:
    """Open a page that shows a model whose name, run and files are full of markup."""
    home = scripted_store.copy_to(tmp_path)
    uri = f"sqlite:///{home / 'mlflow.db'}"
    model = log_scripted_model(uri, home, "plain")
    inject_markup(home / "mlflow.db", uri, model.model_id)
    approve_models(uri, home, [NAME])
    reports, requested_urls = list[str](), list[str]()
    with serve(home, home / "app.log") as server:
        context = new_visitor(permissions=["clipboard-read", "clipboard-write"])
        context.expose_function("report", lambda report: reports.append(str(report)))
        context.add_init_script(WATCH)
        context.on("request", lambda request: requested_urls.append(request.url))
        yield AttackedPage(open_chat(context, server), model, reports, requested_urls)
        expect_only_requests_to_the_app(server, requested_urls)
        context.close()


def inject_markup(database: Path, uri: str, model_id: str) -> None:
    """Put markup into every field that a store has for a model, even those where MLflow would reject it."""
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE logged_models SET name = ? WHERE model_id = ?", [NAME, model_id])
    client, entry = MlflowClient(uri), Catalogue(uri).find(model_id)
    assert entry.run_id
    assert entry.folder
    client.log_param(entry.run_id, "precision", LINE)
    client.set_tag(entry.run_id, "team", ALL)
    client.set_tag(entry.run_id, "mlflow.runName", NAME)
    file = Path(entry.folder, "MLmodel")
    text = file.read_text(encoding="utf-8")
    assert "title: Scripted model" in text
    file.write_text(
        text.replace("title: Scripted model", f"title: {json.dumps(LINE)}\n  license: {json.dumps(LINE)}"),
        encoding="utf-8",
    )


def expect_only_requests_to_the_app(server: Server, requested_urls: list[str]) -> None:
    foreign_urls = [url for url in requested_urls if not url.startswith((f"{server.url}/", "data:", "blob:"))]
    assert foreign_urls == []
    assert not [url for url in requested_urls if url.endswith(("/logout", "/x"))]


def test_untrusted_markup_never_becomes_part_of_the_page(attacked: AttackedPage, tmp_path: Path) -> None:
    chat, page, reports = attacked.chat, attacked.page, attacked.reports
    expect(chat.status.locator(".phi3-model-name")).to_have_text(NAME)
    for tab in ("usage", "model", "settings"):
        chat.show_tab(tab)
    expect(chat.card).to_contain_text("report(41)")
    chat.open_models()
    page.keyboard.press("Escape")
    assert reports == []

    ask_and_rate(attacked)
    assert reports == []
    exported = show_chat_in_every_view(attacked, tmp_path)
    assert reports == []
    import_files(chat, exported, tmp_path)
    assert reports == []
    unload_while_answering(attacked)
    assert reports == []
    compare(chat)
    chat.reload()
    for chat_button in chat.chats.all()[:3]:
        chat_button.click()
        expect(chat_button).to_have_attribute("aria-current", "page")
    assert reports == []

    # Self-check: an injection is detected.
    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=report(1)>')")
    page.evaluate("report(1)")
    page.wait_for_function("document.body.lastChild.complete")
    assert {text.partition(":")[0] for text in reports} == {"element", "stopped", "1"}
    attacked.requested_urls.clear()


def ask_and_rate(attacked: AttackedPage) -> None:
    """Use markup as system prompt, attachment, question, answer (streaming and complete), comment and title."""
    chat, page = attacked.chat, attacked.page
    chat.set_setting("System prompt", ALL)
    page.get_by_role("button", name="Save as preset").click()
    page.get_by_label("Name of the preset").fill(LINE[:60])
    page.get_by_role("button", name="Save", exact=True).click()
    attach(
        chat,
        ("<img src=x onerror=report(50)>.md", ALL.replace("\0", "").encode()),
        ("<svg onload=report(51)>.png", b"\x89PNG\0\0"),
    )
    expect(page.locator(".phi3-refusals")).to_contain_text("report(51)")
    gate = attacked.model.create_gate()
    attacked.model.enqueue(Reply(f"{ALL} ", gate, f" {ALL}\n\nThe end."))
    captions = chat.ask(ALL)
    expect(chat.answers.last).to_contain_text("report(28)")
    gate.open()
    chat.wait_for_caption(captions)
    expect(chat.answers.last).to_contain_text("The end.")
    schemes = chat.answers.last.locator("a").evaluate_all("(links) => links.map((link) => link.protocol)")
    assert set(schemes) <= {"http:", "https:"}
    chat.questions.locator("details summary").first.click()
    chat.press("bad")
    chat.comment.fill(ALL)
    chat.list_button("script", "rename").click()
    page.locator(".phi3-rename").fill(LINE)
    page.locator(".phi3-rename").press("Enter")
    chat.search.fill("<img src=x onerror=report(60)>")
    chat.search.fill("")
    expect(chat.chats).to_have_count(1)


def unload_while_answering(attacked: AttackedPage) -> None:
    """Trigger a notice with the model's name, and an error with the model's message."""
    chat, gate = attacked.chat, attacked.model.create_gate()
    attacked.model.enqueue(Reply("Once upon a time ", gate, "it ended.", error=LINE))
    captions = chat.ask("Tell me.")
    chat.wait_for_text()
    chat.show_tab("model")
    chat.page.locator("#phi3-unload").click()
    expect(chat.page.locator(".toast-body")).to_contain_text(f"{NAME} is answering a question.")
    gate.open()
    chat.wait_for_caption(captions)
    expect(chat.errors).to_contain_text("report(2)")


def show_chat_in_every_view(attacked: AttackedPage, folder: Path) -> Path:
    """Open the Reproduce dialog, an edit and a replay, export the chat, and return the exported file."""
    chat, page = attacked.chat, attacked.page
    chat.press("reproduce")
    expect(page.get_by_role("dialog", name="Reproduce this answer")).to_contain_text("report(2)")
    page.keyboard.press("Escape")
    chat.press("edit", 0)
    page.keyboard.press("Escape")
    replay = chat.open_replay()
    page.keyboard.press("Escape")
    expect(replay).to_be_hidden()
    return download_file(chat, chat.list_button("script", "save_json"), folder)


def import_files(chat: ChatPage, exported: Path, folder: Path) -> None:
    """Import files whose names, titles, roles, models and errors contain markup."""
    own_file = folder / "<img src=x onerror=report(70)>.json"
    own_file.write_text(
        exported.read_text(encoding="utf-8").replace(json.dumps(NAME), json.dumps(ALL)), encoding="utf-8"
    )
    messages = [{"from": "human", "value": ALL}, {"from": "gpt", "value": ALL}]
    foreign_file = folder / "<svg onload=report(71)>.json"
    foreign_file.write_text(
        json.dumps(
            [
                {"title": LINE, "conversations": messages},
                {"title": LINE, "conversations": [{"from": LINE, "value": "x"}]},
                {"title": LINE, "conversations": messages, "images": [LINE]},
            ]
        ),
        encoding="utf-8",
    )
    panel = chat.page.locator("#phi3-import")
    for file, count in ((own_file, 2), (foreign_file, 3)):
        chat.import_file(file)
        expect(panel.get_by_role("status")).to_contain_text("1 chat imported.")
        expect(chat.chats).to_have_count(count)
    expect(panel.get_by_role("listitem").first).to_contain_text("report(")


def compare(chat: ChatPage) -> None:
    """Compare models, and vote with a reason."""
    open_comparison(chat)
    ask(chat, ALL)
    wait_for_end(chat)
    view = chat.compare
    view.get_by_label("reason").fill(ALL)
    view.get_by_role("button", name="Tie").click()
    expect(view.locator(".voted")).to_be_visible()
    expect(view.locator(".model").filter(has_text="report(40)")).to_have_count(1)
    view.get_by_role("button", name="Done").click()
    expect(view).to_be_hidden()
