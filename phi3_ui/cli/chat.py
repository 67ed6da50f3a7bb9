"""`chat`: the answer streams to standard output as it comes, with what it took on standard error after it."""

import argparse
import contextlib
import getpass
import json
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from phi3_ui.chat.conversation import Answer, Conversation, TurnRequest, new_id
from phi3_ui.chat.running_turn import RunningTurn
from phi3_ui.cli.app import (
    App,
    add_command,
    add_json,
    add_model,
    add_params,
    model_spec,
    params_from_arguments,
    strip_control_chars,
)
from phi3_ui.errors import UserError
from phi3_ui.evaluation.evaluate import build_row
from phi3_ui.host.pool import Pool
from phi3_ui.i18n.translate import tr
from phi3_ui.store.conversations.open_store import open_conversation_store
from phi3_ui.store.conversations.turn_writer import TurnWriter

_INTERVAL = 0.03  # seconds between looks at the answer


def add_to(commands: Any) -> None:
    words = "ask one question, or read questions line by line until the end of input"
    parser = add_command(commands, "chat", _chat, words)
    add_model(parser)
    parser.add_argument("prompt", nargs="?", metavar="PROMPT", help="the one question")
    add_params(parser)
    add_json(parser, "one JSON object a line for each answer")


def _chat(app: App, parsed: argparse.Namespace) -> int:
    """Exit code 1 if an answer failed. Ctrl-C stops an answer; a second one, or one between answers, leaves."""
    entry = app.find(parsed.model)
    params, spec = params_from_arguments(entry, parsed), model_spec(app, entry, parsed)
    if parsed.prompt is not None and not parsed.prompt.strip():
        raise UserError("empty_question")
    pool = Pool(app.settings.logs, 1, app.settings.idle_seconds)
    keeper, _ = open_conversation_store(app.settings)
    conversation, conversation_id, failed = Conversation(), new_id(), False
    try:
        pool.get_model(spec)  # loads while the first question is typed
        for question in [parsed.prompt] if parsed.prompt is not None else _questions():
            asked = TurnRequest(time.time(), entry.model_id, parsed.system, params, spec.template)
            conversation = conversation.ask(question, asked)
            kept = keeper.start_turn(_user(), conversation_id, conversation, entry.name)
            answers: list[Answer] = []

            def end(answer: Answer, kept: TurnWriter = kept, answers: list[Answer] = answers) -> None:
                kept.finish(answer)
                answers.append(answer)

            turn = RunningTurn(
                conversation,
                lambda: pool.get_model(spec),
                entry.name,
                parsed.system,
                params,
                end,
                on_text=kept.append_text,
            ).start()
            with _stopped_by_interrupt(turn):
                _show(turn, silent=parsed.json)
            conversation = conversation.answered(answers[0])
            failed |= answers[0].error is not None
            if parsed.json:
                print(json.dumps({"model": entry.name, "question": question, **build_row(answers[0])}), flush=True)
            else:
                print(usage_line(answers[0]), file=sys.stderr, flush=True)
    finally:
        pool.close()
        keeper.recorder.close()
        if warning := keeper.recorder.warning:
            print(warning, file=sys.stderr)
    return int(failed)


def _user() -> str:
    """Whose chats these are: the login name on this machine, else that of nobody in particular."""
    with contextlib.suppress(OSError, KeyError):
        return getpass.getuser()
    return "command-line"


def _questions() -> Iterator[str]:
    """The lines of standard input that say something, asked for where a person types them."""
    typed = sys.stdin.isatty() and sys.stdout.isatty()
    while True:
        try:
            line = input("> " if typed else "").strip()
        except EOFError:
            return
        if line:
            yield line


def _show(turn: RunningTurn, silent: bool) -> None:
    """Write the text of the turn as it comes, to its end."""
    shown, loading = 0, False
    for state in turn.states(_INTERVAL):
        if state.phase == "loading" and not loading:
            loading = True
            print(tr("en", "wait.loading"), file=sys.stderr, flush=True)
        if silent:
            continue
        piece = state.text[shown:]
        shown = len(state.text)
        print(strip_control_chars(piece) if sys.stdout.isatty() else piece, end="", flush=True)
    if shown:
        print(flush=True)


@contextmanager
def _stopped_by_interrupt(turn: RunningTurn) -> Iterator[None]:
    """Ctrl-C in the block stops the turn, which then ends; a second one is a KeyboardInterrupt."""

    def stop(*_: object) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        turn.stop()

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def usage_line(answer: Answer) -> str:
    """What an answer took, in one line; the sentence of its error, if it has one."""
    if answer.error:
        code, values = answer.error
        return str(UserError(code, **values))
    usage, timings = answer.usage, answer.timings
    parts = [
        tr("en", "unknown")
        if usage is None
        else tr("en", "tokens", prompt=usage.prompt_tokens, completion=usage.completion_tokens)
    ]
    if timings and timings.time_to_first_token is not None:
        parts.append(f"{timings.time_to_first_token:.2f} s")
    if timings and timings.tokens_per_second is not None:
        parts.append(tr("en", "rate", rate=f"{timings.tokens_per_second:.1f}"))
    return " · ".join([*parts, tr("en", f"finish.{answer.finish_reason}")])
