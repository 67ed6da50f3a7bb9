"""`chat`: stream the answer to standard output, and print its usage to standard error."""

import contextlib
import getpass
import json
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import click

from phi3_ui.chat.chat_model import ChatModel
from phi3_ui.chat.conversation import Answer, Conversation, TurnRequest, new_id
from phi3_ui.chat.running_turn import RunningTurn
from phi3_ui.cli.app import (
    AnswerOptions,
    App,
    answer_options,
    json_option,
    model_argument,
    pass_app,
    strip_control_chars,
)
from phi3_ui.errors import UserError
from phi3_ui.evaluation.answer_rows import build_row
from phi3_ui.i18n.translate import tr
from phi3_ui.sources.model_source import ModelSource
from phi3_ui.store.conversations.open_store import open_conversation_store
from phi3_ui.store.conversations.turn_writer import ConversationStore
from phi3_ui.store.registry.cards import ModelEntry

_POLL_SECONDS = 0.03  # between polls of the answer


@click.command(short_help="Ask one question, or several line by line.")
@model_argument
@click.argument("prompt", required=False)
@answer_options
@json_option("each answer as one line of JSON")
@pass_app
def chat(app: App, model: str, prompt: str | None, options: AnswerOptions, as_json: bool) -> int:
    """Ask one question, or read questions line by line until the end of input.

    Ctrl-C stops an answer; a second Ctrl-C, or one between answers, exits. The exit code is 1 if any answer failed.
    """
    entry = app.find(model)
    options.check(entry)
    if prompt is not None and not prompt.strip():
        raise UserError("empty_question")
    if entry.host:
        notice = "remote.elsewhere" if entry.is_elsewhere else "remote.here"
        print(tr("en", notice, host=entry.host), file=sys.stderr)
    store, locator = open_conversation_store(app.settings)
    failed = False
    try:
        with app.open_models() as models:
            conversation = _TerminalChat(models, store, entry, options)
            conversation.open()  # loads while the first question is typed
            for question in [prompt] if prompt is not None else _read_questions():
                answer = conversation.ask(question, silent=as_json)
                failed |= answer.error is not None
                if as_json:
                    print(json.dumps({"model": entry.name, "question": question, **build_row(answer)}), flush=True)
                else:
                    print(format_usage(answer), file=sys.stderr, flush=True)
    finally:
        store.recorder.close()
        for message in dict.fromkeys(map(str, filter(None, (locator.notice, store.recorder.warning)))):
            print(message, file=sys.stderr)
    return int(failed)


@dataclass
class _TerminalChat:
    """One conversation with one model, recorded turn by turn."""

    models: ModelSource
    store: ConversationStore
    entry: ModelEntry
    options: AnswerOptions
    conversation: Conversation = field(default_factory=Conversation)
    id: str = field(default_factory=new_id)

    def open(self) -> ChatModel:
        """Return the model, loading it if necessary."""
        return self.models.open(self.entry, self.options.template)

    def ask(self, question: str, silent: bool) -> Answer:
        """Answer `question`; print the text as it arrives unless `silent`."""
        template = self.options.template or self.entry.template
        request = TurnRequest(time.time(), self.entry.model_id, self.options.system, self.options.params, template)
        self.conversation = self.conversation.with_question(question, request)
        writer = self.store.start_turn(_get_user(), self.id, self.conversation, self.entry.name)
        answers: list[Answer] = []

        def finish(answer: Answer) -> None:
            writer.finish(answer)
            answers.append(answer)

        turn = RunningTurn(
            self.conversation.build_request(),
            self.entry.name,
            self.open,
            finish,
            writer.append_text,
        ).start()
        with _stop_on_interrupt(turn):
            _print_text(turn, silent)
        self.conversation = self.conversation.with_answer(answers[0])
        return answers[0]


def _get_user() -> str:
    """Return the user to record the chat for: the login name on this machine, if there is one."""
    with contextlib.suppress(OSError, KeyError):
        return getpass.getuser()
    return "command-line"


def _read_questions() -> Iterator[str]:
    """Yield the non-blank lines of standard input; show a prompt if they are typed at a terminal."""
    is_typed = sys.stdin.isatty() and sys.stdout.isatty()
    while True:
        try:
            line = input("> " if is_typed else "").strip()
        except EOFError:
            return
        if line:
            yield line


def _print_text(turn: RunningTurn, silent: bool) -> None:
    """Print the text of the turn as it arrives, until the turn ends."""
    shown, loading = 0, False
    for state in turn.snapshots(_POLL_SECONDS):
        if state.phase == "loading" and not loading:
            loading = True
            print(tr("en", "wait.loading"), file=sys.stderr, flush=True)
        if silent:
            continue
        new = state.text[shown:]
        shown = len(state.text)
        print(strip_control_chars(new) if sys.stdout.isatty() else new, end="", flush=True)
    if shown:
        print(flush=True)


@contextmanager
def _stop_on_interrupt(turn: RunningTurn) -> Iterator[None]:
    """For the duration of the block, let Ctrl-C stop the turn, which then ends; a second one raises KeyboardInterrupt."""

    def stop(*_: object) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        turn.stop()

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def format_usage(answer: Answer) -> str:
    """Format usage and timings of an answer on one line, or return its error message."""
    if answer.error:
        code, values = answer.error
        return str(UserError(code, **values))
    usage, timings = answer.usage, answer.timings
    parts = [
        tr("en", "unknown")
        if usage is None
        else tr("en", "tokens", prompt=usage.prompt_tokens, count=usage.completion_tokens)
    ]
    if timings and timings.time_to_first_token is not None:
        parts.append(f"{timings.time_to_first_token:.2f} s")
    if timings and timings.tokens_per_second is not None:
        parts.append(tr("en", "rate", rate=f"{timings.tokens_per_second:.1f}"))
    parts.append(tr("en", f"finish.{answer.finish_reason}"))
    if answer.ended_model:
        parts.append(tr("en", "finish.ended_model"))
    return " · ".join(parts)
