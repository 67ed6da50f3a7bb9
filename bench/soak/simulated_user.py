"""A simulated user with a separate browser, who performs typical actions at random."""

import contextlib
import json
import random
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psutil
from playwright.sync_api import Error, Playwright, expect, sync_playwright

from tests.support import browser as chromium
from tests.support.chat_page import ANSWER, ChatPage

expect.set_options(timeout=60_000)  # milliseconds: four browsers and two models share the cores

_QUESTIONS = [
    "Name a colour.",
    "Count to five.",
    "What is the capital of France?",
    "Write one sentence about the sea.",
    "Give me a table of three fruits.",
    "Write a short Python function.",
]
_IS_AT_REST = """() => {
  const count = (part) => document.querySelectorAll(`#phi3-chat ${part}`).length;
  return count('[data-testid="user"]') === count(".phi3-by") && document.querySelector("#phi3-send").checkVisibility();
}"""
_MAX_TOKENS = "48"
_MAX_CHATS = 4
_ATTEMPT_SECONDS = 2.0  # between attempts to open the page of an app that is down
_PAUSES = (0.2, 2.0)  # seconds between two actions


class SimulatedUser(threading.Thread):
    """Uses the app until `leave`; then `is_away` is set until `come_back`.

    `asked` counts, by question, the turns started, and `finished` those whose end was shown on the page; `done` counts actions.
    `faults` are the errors for which `is_excused`, called with the start time of the action (`time.monotonic`), is false:
    those not caused by a kill.
    """

    def __init__(self, name: str, url: str, seed: int, is_excused: Callable[[float], bool]) -> None:
        super().__init__(name=name, daemon=True)
        self.asked, self.finished = Counter[str](), Counter[str]()
        self.done = Counter[str]()
        self.faults: list[str] = []
        self.is_away = threading.Event()
        self._url = url
        self._random = random.Random(seed)
        self._is_excused = is_excused
        self._numbers = Counter[str]()
        self._wants_away = threading.Event()
        self._may_return = threading.Event()
        self._has_ended = False

    def leave(self) -> None:
        """Close the browser after the current action. Wait for `is_away`."""
        self._may_return.clear()
        self._wants_away.set()

    def come_back(self, for_good: bool = True) -> None:
        """Open the page again; otherwise the thread ends."""
        self._has_ended = not for_good
        self._wants_away.clear()
        self.is_away.clear()
        self._may_return.set()

    def run(self) -> None:
        with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
            while not self._has_ended:
                self._use_browser(playwright, Path(folder))
                if self._wants_away.is_set():
                    self.is_away.set()
                    self._may_return.wait()

    def _use_browser(self, playwright: Playwright, folder: Path) -> None:
        """Use one browser until it is time to leave or it is killed. `folder` keeps its storage, and with it access to the user's chats."""
        context = playwright.chromium.launch_persistent_context(
            folder / "profile",
            executable_path=chromium.ensure(),
            args=chromium.FLAGS,
            viewport={"width": 1400, "height": 900},
        )
        browser = _find_browser(folder / "profile")
        try:
            while not self._wants_away.is_set() and browser.is_running():
                page = context.new_page()
                began = time.monotonic()
                try:
                    page.goto(self._url)
                    chat = ChatPage(page).wait_until_ready()
                    while not self._wants_away.wait(self._random.uniform(*_PAUSES)):
                        began = time.monotonic()
                        if self._random.random() < 1 / 40:
                            browser.kill()  # without notifying the server
                            browser.wait()
                            self.done["vanish"] += 1
                            return
                        self._act(chat, folder)
                except (Error, AssertionError) as error:
                    if not self._is_excused(began):
                        self.faults.append("".join(traceback.format_exception(error)))
                    self._wants_away.wait(_ATTEMPT_SECONDS)
                page.close()
        finally:
            with contextlib.suppress(Error):  # it was killed
                context.close()

    def _act(self, chat: ChatPage, folder: Path) -> None:
        """Perform one random action."""
        actions: dict[Callable[[], None], int] = {
            lambda: self._ask(chat): 10,
            lambda: self._ask_and_stop(chat): 3,
            lambda: self._regenerate(chat): 2,
            lambda: self._open_chat(chat): 3,
            lambda: self._switch_model(chat): 1,
            lambda: self._reload(chat): 3,
            lambda: self._import_chat(chat, folder): 1,
            lambda: self._delete_chat(chat): 1,
            chat.start_new_chat: 3,
        }
        self._random.choices(list(actions), list(actions.values()))[0]()

    def _new_question(self) -> str:
        self._numbers["question"] += 1
        return f"{self._random.choice(_QUESTIONS)} ({self.name}, {self._numbers['question']})"

    def _send(self, chat: ChatPage) -> tuple[str, int]:
        """Ask a question. Return it, and the number of captions expected once it is answered."""
        if chat.page.locator("#phi3-settings").get_by_label("Max tokens").first.input_value() != _MAX_TOKENS:
            chat.set_setting("Max tokens", _MAX_TOKENS)
        question = self._new_question()
        self.asked[question] += 1
        return question, chat.ask(question)

    def _ask(self, chat: ChatPage) -> None:
        question, captions = self._send(chat)
        chat.wait_for_caption(captions)
        self.finished[question] += 1
        self.done["ask"] += 1

    def _ask_and_stop(self, chat: ChatPage) -> None:
        question, captions = self._send(chat)
        self._wants_away.wait(self._random.uniform(0, 1))
        with contextlib.suppress(Error):  # the answer has already ended
            chat.stop.click(timeout=1000)
        chat.wait_for_caption(captions)
        self.finished[question] += 1
        self.done["stop"] += 1

    def _regenerate(self, chat: ChatPage) -> None:
        if not chat.captions.count():
            return
        question = chat.questions.last.inner_text()
        captions = chat.captions.count()
        self.asked[question] += 1
        chat.press("retry")
        chat.stop.wait_for()
        chat.wait_for_caption(captions)
        self.finished[question] += 1
        self.done["regenerate"] += 1

    def _open_chat(self, chat: ChatPage) -> None:
        if count := chat.chats.count():
            row = chat.chats.nth(self._random.randrange(count))
            row.click()
            expect(row).to_have_attribute("aria-current", "page")
            self.done["open a chat"] += 1

    def _switch_model(self, chat: ChatPage) -> None:
        rows = chat.open_models()
        rows.nth(self._random.randrange(rows.count())).click()
        chat.wait_until_loaded()
        self.done["switch the model"] += 1

    def _reload(self, chat: ChatPage) -> None:
        if self._random.random() < 2 / 3:
            self._send(chat)  # and leave the answer unfinished
            self.done["reload while answering"] += 1
        else:
            self.done["reload"] += 1
        chat.reload()
        chat.page.wait_for_function(_IS_AT_REST, timeout=ANSWER)

    def _import_chat(self, chat: ChatPage, folder: Path) -> None:
        self._numbers["import"] += 1
        questions = [self._new_question() for _ in range(3)]
        said = [{"from": name, "value": text} for question in questions for name, text in _turn(question)]
        file = folder / f"import-{self._numbers['import']}.json"
        file.write_text(json.dumps([{"title": questions[0], "conversations": said}]), encoding="utf-8")
        self.asked.update(questions)
        chat.import_file(file)
        chat.chats.filter(has_text=questions[0]).click()
        expect(chat.questions).to_have_text(questions)
        self.finished.update(questions)
        self.done["import"] += 1

    def _delete_chat(self, chat: ChatPage) -> None:
        """Delete the oldest of many chats. If the app ends during the undo period, the chat is kept, so no outcome is expected."""
        if chat.chats.count() > _MAX_CHATS:
            row = chat.chats.last
            row.click()
            expect(row).to_have_attribute("aria-current", "page")
            expect(chat.questions).not_to_have_count(0)
            questions = chat.questions.all_inner_texts()
            chat.list_button(questions[0], "delete").click()
            for question in questions:
                self.finished.pop(question, None)
            self.done["delete"] += 1


def _turn(question: str) -> list[tuple[str, str]]:
    return [("human", question), ("gpt", f"Imported: {question}")]


def _find_browser(profile: Path) -> psutil.Process:
    """Find the main process of the browser with this profile, among this program's children."""
    option = f"--user-data-dir={profile}"
    return next(
        child
        for child in psutil.Process().children(recursive=True)
        if option in child.cmdline() and not any(part.startswith("--type=") for part in child.cmdline())
    )
