"""Tests for adding and promoting models and choosing templates on the page, with a fake hub and third-party models."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from mlflow import MlflowClient
from playwright.sync_api import expect

from tests.e2e.conftest import NewVisitor, OpenPage, open_chat
from tests.support.app_server import Server, serve
from tests.support.chat_page import LOAD, ChatPage
from tests.support.command_line import RunCommand
from tests.support.hub import Hub, hub
from tests.support.third_party_store import ThirdPartyStore
from tests.support.tiny_phi3 import WORDS
from tests.support.trust import approve_models

REPO = "tiny/Phi-3-tiny-instruct"
WEIGHTS = "model.safetensors"


@dataclass
class ThirdPartyApp:
    """An app with a store of third-party models, and the fake hub that it downloads from."""

    server: Server
    hub: Hub

    @property
    def home(self) -> Path:
        return self.server.home

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(f"sqlite:///{self.home / 'mlflow.db'}")


@pytest.fixture(scope="module")
def third_party_app(
    third_party_store: ThirdPartyStore,
    tiny_checkpoint: Path,
    tiny_onnx: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[ThirdPartyApp]:
    home, log = tmp_path_factory.mktemp("manage"), tmp_path_factory.mktemp("log") / "app.log"
    approve_models(third_party_store.copy_to(home), home)
    onnx = tmp_path_factory.mktemp("onnx-repo")
    shutil.copytree(tiny_onnx, onnx / "cpu")
    with hub(tmp_path_factory.mktemp("hub")) as fake_hub:
        fake_hub.add(REPO, tiny_checkpoint)
        fake_hub.add(f"{REPO}-onnx", onnx)
        variables = {**fake_hub.environment, "PHI3_UI_MODEL_FOLDERS": str(third_party_store.shared)}
        with serve(home, log, variables=variables) as server:
            yield ThirdPartyApp(server, fake_hub)
        assert "Traceback" not in log.read_text(encoding="utf-8")


@pytest.fixture
def open_page(third_party_app: ThirdPartyApp, borrow_visitor: NewVisitor) -> OpenPage:
    """Opens this app, instead of the shared one, as a new visitor."""
    tall = {"width": 1400, "height": 1000}
    return lambda **options: open_chat(borrow_visitor(viewport=tall, **options), third_party_app.server)


def fill_in(chat: ChatPage, source: str, kind: str = "A checkpoint, as a pipeline", name: str = "") -> None:
    """Enter custom weights in the dialog "Add a model"."""
    chat.add_dialog.get_by_label("Custom weights").check()
    chat.add_dialog.get_by_label(kind).check()
    chat.add_dialog.get_by_role("textbox", name="Source A Hub id").fill(source)
    chat.add_dialog.get_by_role("textbox", name="Name Defaults to").fill(name)


def test_a_missing_hub_repository_is_reported_in_one_sentence(open_page: OpenPage) -> None:
    chat = open_page()
    chat.open_add_model()
    fill_in(chat, "nobody/nothing")
    chat.page.locator("#phi3-add-go").click()
    expect(chat.add_progress.get_by_role("alert")).to_contain_text("nobody/nothing", timeout=LOAD)
    chat.add_dialog.get_by_role("textbox", name="Source A Hub id").fill("no such thing")
    chat.page.locator("#phi3-add-go").click()
    expect(chat.add_progress.get_by_role("alert")).to_contain_text("neither a folder on this machine nor a Hub id")
    expect(chat.add_dialog.get_by_role("textbox", name="Source A Hub id")).to_have_value("no such thing")


def test_promotion_needs_confirmation_and_the_alias_can_be_picked(
    third_party_app: ThirdPartyApp, open_page: OpenPage, run_command: RunCommand
) -> None:
    model = next(
        m
        for m in third_party_app.client.search_logged_models([_find_experiment_id(third_party_app)])
        if m.name == "chat-model"
    )
    assert run_command(third_party_app.home, "register", model.model_id, "--name", "theirs").returncode == 0
    third_party_app.client.delete_registered_model_alias("theirs", "champion")
    chat = open_page()
    chat.pick("chat-model")
    chat.show_tab("model")
    registry = chat.page.locator("#phi3-registry")
    registry.get_by_role("button", name="Registry").click()
    registry.get_by_role("button", name="Promote this model's newest").click()
    expect(registry).to_contain_text("theirs has no champion yet. Make version 1 the champion?")
    registry.get_by_role("button", name="No", exact=True).click()
    assert third_party_app.client.get_registered_model("theirs").aliases == {}
    registry.get_by_role("button", name="Promote this model's newest").click()
    registry.get_by_role("button", name="Yes, promote").click()
    expect(registry).to_contain_text("Version 1 of theirs is now its champion.")
    expect(chat.card).to_contain_text("version 1 @champion")
    assert {
        name: str(version) for name, version in third_party_app.client.get_registered_model("theirs").aliases.items()
    } == {"champion": "1"}
    chat.choose("theirs@champion")
    assert chat.answer("Hello")
    assert chat.captions.last.inner_text().startswith("chat-model")


def test_a_template_is_required_and_remembered_and_unsupported_settings_are_disabled(open_page: OpenPage) -> None:
    chat = open_page()
    chat.pick("tutorial")
    chat.show_tab("settings")
    settings = chat.page.locator("#phi3-settings")
    expect(settings.get_by_label("Seed")).to_be_disabled()
    expect(settings).to_contain_text("Not supported by this model")
    template = chat.page.locator("#phi3-template")
    expect(template).to_be_visible()
    chat.wait_for_caption(chat.ask("Hello"))
    expect(chat.errors).to_contain_text("template")
    template.locator("input").click()
    chat.page.get_by_role("option", name="Phi-3").click()
    # The model repeats its prompt; the answer is cut off at the template's stop string.
    assert chat.answer("Hello again") == "You wrote '"

    other = open_page()
    other.pick("tutorial")
    expect(other.page.locator("#phi3-template input")).to_have_value("Phi-3")
    assert other.answer("Hi")


def test_only_chat_models_are_listed_and_every_kind_answers_on_the_page(
    third_party_app: ThirdPartyApp, open_page: OpenPage, run_command: RunCommand
) -> None:
    chat = open_page()
    options = set(chat.model_names())
    assert {"tutorial", "chunks"} <= options
    assert options.isdisjoint({"numbers", "vectors", "translator", "no-signature"})
    listed = run_command(third_party_app.home, "list", "--json").json()
    assert {entry["name"] for entry in listed} == {o for o in options if "@" not in o}
    chat.page.keyboard.press("Escape")

    chat.show_tab("settings")
    for kind, answer in (
        ("hinted", "USER: HELLO"),
        ("strings", "Params: "),
        ("chunks", "One two three"),
        ("chat-model", "Red green blue"),
        ("chat-agent", "I look."),
        ("responses", "Sea and sky"),
        ("completions", " ".join(WORDS)),
    ):
        chat.start_new_chat()
        chat.pick(kind)
        if chat.page.locator("#phi3-template").is_visible():
            chat.page.locator("#phi3-template input").click()
            chat.page.get_by_role("option", name="Plain").click()
        assert chat.answer("Hello").startswith(answer), kind
        expect(chat.errors).to_have_count(0)


# Runs last: a new page loads the newest model, and the models added here need an engine.
def test_both_forms_of_phi_3_are_added_from_the_hub_even_after_a_cancelled_download(
    third_party_app: ThirdPartyApp, open_page: OpenPage
) -> None:
    chat = open_page()
    chat.open_add_model()
    fill_in(chat, f"{REPO}-onnx:cpu", "An ONNX Runtime GenAI folder", "tiny")
    chat.add_dialog.get_by_label("Precision").click()
    chat.page.get_by_role("option", name="fp32").click()
    chat.page.locator("#phi3-add-go").click()
    expect(chat.add_progress).to_contain_text("Step", timeout=LOAD)
    expect(chat.add_progress).to_contain_text("tiny is in the store", timeout=LOAD)
    fill_in(chat, REPO, name="tiny")
    cancel_and_resume(chat, third_party_app.hub)
    expect(chat.add_progress).to_contain_text("Step", timeout=LOAD)
    expect(chat.add_progress).to_contain_text("tiny is in the store", timeout=LOAD)
    assert any(request.range_header for request in third_party_app.hub.find_requests(WEIGHTS)), (
        "the download did not resume"
    )
    chat.page.keyboard.press("Escape")

    for name, engine in (("tiny-pipeline", "Pipeline"), ("tiny-onnx", "ONNX")):
        chat.pick(name)
        chat.show_tab("model")
        expect(chat.card.locator(".phi3-chip.ok")).to_be_visible()
        expect(chat.card).to_contain_text("@champion")
        expect(chat.card).to_contain_text(
            third_party_app.hub.repos[REPO if engine == "Pipeline" else f"{REPO}-onnx"].names["main"]
        )
        chat.set_setting("Max tokens", 12)
        chat.answer("What is the capital of France?")
        caption = chat.captions.last.text_content() or ""
        assert caption.startswith(f"{name} · ")
        assert "12 out" in caption

    expect(chat.context).to_contain_text("/ 4,096")
    for number in range(4):
        chat.answer(f"{number} " * 1500)
    expect(chat.truncation_notes).to_have_count(1)
    expect(chat.truncation_notes).to_contain_text("no longer fit")
    assert chat.questions.count() == 6, "trimmed turns are not on the page"


def cancel_and_resume(chat: ChatPage, hub: Hub) -> None:
    """Start the download entered in the dialog, cancel it halfway, and start it again."""
    hub.pause_after_bytes[WEIGHTS] = 200_000
    hub.paused.clear()
    hub.resume.clear()
    chat.page.locator("#phi3-add-go").click()
    assert hub.paused.wait(timeout=60)
    expect(chat.add_progress).to_contain_text("Downloading the checkpoint from the Hub", timeout=LOAD)
    expect(chat.page.locator("#phi3-add-go")).to_be_disabled()
    chat.page.keyboard.press("Escape")
    expect(chat.add_dialog).to_be_hidden()
    expect(chat.status).to_contain_text("Add a model: tiny · ")
    chat.open_add_model()
    chat.page.locator("#phi3-add-cancel").click()
    expect(chat.add_progress).to_contain_text("Cancelled. The files downloaded so far are kept", timeout=LOAD)
    hub.pause_after_bytes.clear()
    hub.resume.set()
    hub.sent_bytes.clear()
    chat.page.locator("#phi3-add-go").click()


def _find_experiment_id(third_party_app: ThirdPartyApp) -> str:
    experiment = third_party_app.client.get_experiment_by_name("theirs")
    assert experiment
    return experiment.experiment_id
