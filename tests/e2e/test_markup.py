"""Markup and scripts from users, models and files: all of it is shown as text, none of it runs."""

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
from tests.e2e.test_export import save
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

# Reports what the policy has blocked, and elements that have injected scripts or lead elsewhere, even for a moment.
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
class Attacked:
    """A page of an app full of markup, and what it has caused."""

    chat: ChatPage
    model: ScriptedModel
    found: list[str]
    requested: list[str]

    @property
    def page(self) -> Page:
        return self.chat.page


@pytest.fixture
def attacked(new_visitor: NewVisitor, scripted_store: ScriptedStore, tmp_path: Path) -> Iterator[Attacked]:
    """A page that shows a model whose name, run and files are full of markup."""
    home = scripted_store.copy_to(tmp_path)
    uri = f"sqlite:///{home / 'mlflow.db'}"
    model = log_scripted_model(uri, home, "plain")
    describe(home / "mlflow.db", uri, model.model_id)
    approve_models(uri, home, [NAME])
    found, requested = list[str](), list[str]()
    with serve(home, home / "app.log") as server:
        context = new_visitor(permissions=["clipboard-read", "clipboard-write"])
        context.expose_function("report", lambda what: found.append(str(what)))
        context.add_init_script(WATCH)
        context.on("request", lambda request: requested.append(request.url))
        yield Attacked(open_chat(context, server), model, found, requested)
        expect_only_the_app(server, requested)
        context.close()


def describe(database: Path, uri: str, model_id: str) -> None:
    """Put markup wherever a store can hold it for a model, even where MLflow would refuse it."""
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


def expect_only_the_app(server: Server, requested: list[str]) -> None:
    others = [url for url in requested if not url.startswith((f"{server.url}/", "data:", "blob:"))]
    assert others == []
    assert not [url for url in requested if url.endswith(("/logout", "/x"))]


def test_no_markup_of_others_becomes_part_of_the_page(attacked: Attacked, tmp_path: Path) -> None:
    chat, page, found = attacked.chat, attacked.page, attacked.found
    expect(chat.status.locator(".phi3-model-name")).to_have_text(NAME)
    for tab in ("usage", "model", "settings"):
        chat.show_tab(tab)
    expect(chat.card).to_contain_text("report(41)")
    chat.open_models()
    page.keyboard.press("Escape")
    assert found == []

    ask_and_rate(attacked)
    assert found == []
    exported = show_chat_in_every_view(attacked, tmp_path)
    assert found == []
    import_files(chat, exported, tmp_path)
    assert found == []
    unload_while_it_answers(attacked)
    assert found == []
    compare(chat)
    chat.reload()
    for chat_button in chat.chats.all()[:3]:
        chat_button.click()
        expect(chat_button).to_have_attribute("aria-current", "page")
    assert found == []

    # The check would have found this.
    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=report(1)>')")
    page.evaluate("report(1)")
    page.wait_for_function("document.body.lastChild.complete")
    assert {text.partition(":")[0] for text in found} == {"element", "stopped", "1"}
    attacked.requested.clear()


def ask_and_rate(attacked: Attacked) -> None:
    """Use markup as a system prompt, a file, a question, an answer while it streams and when complete, a comment and a title."""
    chat, page = attacked.chat, attacked.page
    chat.setting("System prompt", ALL)
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


def unload_while_it_answers(attacked: Attacked) -> None:
    """Show a notice with the model's name, and an error with a message from the model."""
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


def show_chat_in_every_view(attacked: Attacked, folder: Path) -> Path:
    """Show the program of Reproduce, a replay, an edit and an export; return the exported file."""
    chat, page = attacked.chat, attacked.page
    chat.press("reproduce")
    expect(page.get_by_role("dialog", name="Reproduce this answer")).to_contain_text("report(2)")
    page.keyboard.press("Escape")
    chat.press("edit", 0)
    page.keyboard.press("Escape")
    replay = chat.open_replay()
    page.keyboard.press("Escape")
    expect(replay).to_be_hidden()
    return save(chat, chat.list_button("script", "save_json"), folder)


def import_files(chat: ChatPage, exported: Path, folder: Path) -> None:
    """Import files whose names, titles, roles, models and errors are markup."""
    own = folder / "<img src=x onerror=report(70)>.json"
    own.write_text(exported.read_text(encoding="utf-8").replace(json.dumps(NAME), json.dumps(ALL)), encoding="utf-8")
    said = [{"from": "human", "value": ALL}, {"from": "gpt", "value": ALL}]
    others = folder / "<svg onload=report(71)>.json"
    others.write_text(
        json.dumps(
            [
                {"title": LINE, "conversations": said},
                {"title": LINE, "conversations": [{"from": LINE, "value": "x"}]},
                {"title": LINE, "conversations": said, "images": [LINE]},
            ]
        ),
        encoding="utf-8",
    )
    panel = chat.page.locator("#phi3-import")
    for file, count in ((own, 2), (others, 3)):
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
