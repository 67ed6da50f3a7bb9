"""Adding, promoting and templating models on the page: with a stand-in for the hub, and models that other code logged."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from mlflow import MlflowClient
from playwright.sync_api import Browser, expect

from phi3_ui.paths import ROOT
from tests.e2e.conftest import serve
from tests.support.chat_page import LOAD, ChatPage
from tests.support.env import environment
from tests.support.hub import Hub, hub
from tests.support.tiny_phi3 import WORDS

REPO = "tiny/Phi-3-tiny-instruct"
WEIGHTS = "model.safetensors"


@dataclass
class Place:
    """An app over a store of other people's models, and the hub that it fetches from."""

    url: str
    home: Path
    hub: Hub

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(store_from_arguments(self.home))


def store_from_arguments(home: Path) -> str:
    return f"sqlite:///{home / 'mlflow.db'}"


@pytest.fixture(scope="module")
def place(tiny_checkpoint: Path, tiny_onnx: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    home, log = tmp_path_factory.mktemp("manage"), tmp_path_factory.mktemp("log") / "app.log"
    MlflowClient(store_from_arguments(home)).create_experiment(
        "theirs", artifact_location=(home / "artifacts").as_uri()
    )
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "tests.support.third_party_models",
        store_from_arguments(home),
        home,
    ]
    subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    onnx = tmp_path_factory.mktemp("onnx-repo")
    shutil.copytree(tiny_onnx, onnx / "cpu")
    with hub(tmp_path_factory.mktemp("hub")) as stand_in:
        stand_in.add(REPO, tiny_checkpoint)
        stand_in.add(f"{REPO}-onnx", onnx)
        with serve(home, log, **stand_in.environment) as server:
            yield Place(server.url, home, stand_in)
        assert "Traceback" not in log.read_text(encoding="utf-8")


@pytest.fixture
def visit(browser: Browser, place: Place) -> Iterator[Callable[[], ChatPage]]:
    contexts = []

    def visit_() -> ChatPage:
        context = browser.new_context(viewport={"width": 1400, "height": 1000})
        contexts.append(context)
        page = context.new_page()
        page.goto(place.url)
        return ChatPage(page).ready()

    yield visit_
    for context in contexts:
        context.close()


def pick(chat: ChatPage, name: str) -> None:
    chat.page.locator("#phi3-picker input").click()
    chat.page.get_by_role("option", name=name).first.click()
    expect(chat.card).to_contain_text(name.partition(" ")[0])
    expect(chat.status.locator(".loaded")).to_be_visible(timeout=LOAD)


def open_adding(chat: ChatPage) -> None:
    """Unfold the panel, for weights of one's own."""
    chat.adding.get_by_role("button", name="Add a model").click()
    chat.adding.get_by_label("Weights").click()
    chat.page.get_by_role("option", name="Custom weights").click()


def test_both_forms_of_phi_3_come_from_the_hub_and_answer(place: Place, visit: Callable[[], ChatPage]) -> None:
    chat = visit()
    open_adding(chat)
    chat.adding.get_by_label("Checkpoint to log").fill(REPO)
    chat.adding.get_by_label("ONNX Runtime GenAI folder").fill(f"{REPO}-onnx:cpu")
    chat.adding.get_by_role("textbox", name="Name Empty").fill("tiny")
    chat.adding.get_by_label("Precision").click()
    chat.page.get_by_role("option", name="fp32").click()
    chat.page.locator("#phi3-add-go").click()
    expect(chat.added).to_contain_text("Step", timeout=LOAD)
    expect(chat.added).to_contain_text("tiny is in the store", timeout=LOAD)

    for name, engine in (("tiny-pipeline", "Pipeline"), ("tiny-onnx", "ONNX")):
        pick(chat, name)
        expect(chat.card.locator(".phi3-health.ok")).to_be_visible()
        expect(chat.card).to_contain_text("@champion")
        expect(chat.card).to_contain_text(
            place.hub.repos[REPO if engine == "Pipeline" else f"{REPO}-onnx"].names["main"]
        )
        chat.setting("Max tokens", 12)
        chat.answer("What is the capital of France?")
        caption = chat.captions.last.inner_text()
        assert caption.startswith(f"{name} · {engine}")
        assert "+ 12 tokens" in caption

    expect(chat.context).to_contain_text("of 4,096 tokens")
    for number in range(4):
        chat.answer(f"{number} " * 1500)
    expect(chat.cut).to_have_count(1)
    expect(chat.cut).to_contain_text("no longer fit")
    assert chat.questions.count() == 6, "what it does not see is still there to read"


def test_an_addition_can_be_cancelled_and_goes_on_from_there(place: Place, visit: Callable[[], ChatPage]) -> None:
    chat = visit()
    open_adding(chat)
    place.hub.holds[WEIGHTS] = 200_000
    place.hub.held.clear()
    place.hub.go_on.clear()
    chat.adding.get_by_label("Checkpoint to log").fill(REPO)
    chat.adding.get_by_role("textbox", name="Name Empty").fill("again")
    chat.page.locator("#phi3-add-go").click()
    assert place.hub.held.wait(timeout=60)
    expect(chat.added).to_contain_text("Downloading the checkpoint from the Hub", timeout=LOAD)
    expect(chat.page.locator("#phi3-add-go")).to_be_disabled()
    chat.page.locator("#phi3-add-cancel").click()
    expect(chat.added).to_contain_text("Cancelled. The files downloaded so far are kept", timeout=LOAD)
    place.hub.holds.clear()
    place.hub.go_on.set()
    place.hub.sent.clear()
    chat.page.locator("#phi3-add-go").click()
    expect(chat.added).to_contain_text("again is in the store", timeout=LOAD)
    assert any(one.range for one in place.hub.asked_for(WEIGHTS)), "it went on from where it stopped"


def test_what_the_hub_has_not_is_one_sentence(visit: Callable[[], ChatPage]) -> None:
    chat = visit()
    open_adding(chat)
    chat.adding.get_by_label("Checkpoint to log").fill("nobody/nothing")
    chat.page.locator("#phi3-add-go").click()
    expect(chat.added.get_by_role("alert")).to_contain_text("nobody/nothing", timeout=LOAD)
    chat.adding.get_by_label("Checkpoint to log").fill("no such thing")
    chat.page.locator("#phi3-add-go").click()
    expect(chat.added.get_by_role("alert")).to_contain_text("neither a folder on this machine nor a Hub id")
    expect(chat.adding.get_by_label("Checkpoint to log")).to_have_value("no such thing")


def test_promoting_asks_first_and_the_alias_can_be_picked(place: Place, visit: Callable[[], ChatPage]) -> None:
    model = next(m for m in place.client.search_logged_models([_theirs(place)]) if m.name == "chat-model")
    subprocess.run(
        [sys.executable, "-m", "phi3_ui", "register", model.model_id, "--name", "theirs"],
        cwd=ROOT,
        env=environment(place.home),
        capture_output=True,
        check=True,
    )
    place.client.delete_registered_model_alias("theirs", "champion")
    chat = visit()
    pick(chat, "chat-model ·")
    registry = chat.page.locator("#phi3-registry")
    registry.get_by_role("button", name="Registry").click()
    registry.get_by_role("button", name="Promote this model's newest").click()
    expect(registry).to_contain_text("theirs has no champion. Make version 1 it?")
    registry.get_by_role("button", name="No", exact=True).click()
    assert place.client.get_registered_model("theirs").aliases == {}
    registry.get_by_role("button", name="Promote this model's newest").click()
    registry.get_by_role("button", name="Yes, promote").click()
    expect(registry).to_contain_text("Version 1 of theirs is its champion now.")
    expect(chat.card).to_contain_text("version 1 @champion")
    assert {name: str(at) for name, at in place.client.get_registered_model("theirs").aliases.items()} == {
        "champion": "1"
    }
    pick(chat, "theirs @champion")
    assert chat.answer("Hello")
    assert chat.captions.last.inner_text().startswith("chat-model")


def test_a_model_without_a_template_asks_for_one_and_keeps_it(place: Place, visit: Callable[[], ChatPage]) -> None:
    chat = visit()
    pick(chat, "tutorial ·")
    template = chat.page.locator("#phi3-template")
    expect(template).to_be_visible()
    chat.wait_for_caption(chat.ask("Hello"))
    expect(chat.errors).to_contain_text("template")
    template.locator("input").click()
    chat.page.get_by_role("option", name="Phi-3").click()
    # It repeats its prompt, and the answer is cut where the template says that one ends.
    assert chat.answer("Hello again") == "You wrote '"

    other = visit()
    pick(other, "tutorial ·")
    expect(other.page.locator("#phi3-template input")).to_have_value("Phi-3")
    assert other.answer("Hi")


def test_controls_say_why_they_are_off(visit: Callable[[], ChatPage]) -> None:
    chat = visit()
    pick(chat, "tutorial ·")
    chat.page.locator("#phi3-settings").get_by_role("button", name="Settings").click()
    seed = chat.page.locator("#phi3-settings").get_by_label("Seed")
    expect(seed).to_be_disabled()
    expect(chat.page.locator("#phi3-settings")).to_contain_text("Not supported by this model")


@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        ("hinted", "USER: HELLO"),
        ("strings", "Params: "),
        ("chunks", "One two three"),
        ("chat-model", "Red green blue"),
        ("chat-agent", "I look."),
        ("responses", "Sea and sky"),
        ("completions", " ".join(WORDS)),
    ],
)
def test_every_kind_is_chatted_with_through_the_page(visit: Callable[[], ChatPage], kind: str, answer: str) -> None:
    chat = visit()
    pick(chat, f"{kind} ·")
    if chat.page.locator("#phi3-template").is_visible():
        chat.page.locator("#phi3-template input").click()
        chat.page.get_by_role("option", name="Plain").click()
    assert chat.answer("Hello").startswith(answer)
    expect(chat.errors).to_have_count(0)


def test_what_is_no_chat_model_is_not_listed(place: Place, visit: Callable[[], ChatPage]) -> None:
    chat = visit()
    chat.page.locator("#phi3-picker input").click()
    options = {
        option.removeprefix("✓").split(" · ")[0].strip() for option in chat.page.get_by_role("option").all_inner_texts()
    }
    assert {"tutorial", "chunks"} <= options
    assert options.isdisjoint({"numbers", "vectors", "translator", "no-signature"})
    done = subprocess.run(
        [sys.executable, "-m", "phi3_ui", "list", "--json"],
        cwd=ROOT,
        env=environment(place.home),
        capture_output=True,
        text=True,
        check=True,
    )
    assert {entry["name"] for entry in json.loads(done.stdout)} == {o for o in options if "@" not in o}


def _theirs(place: Place) -> str:
    return str(place.client.get_experiment_by_name("theirs").experiment_id)
