"""Render a stand-alone program that asks the model for one answer again, using only MLflow.

The program comes from the template of the model's contract (see phi3_ui/contracts/programs); this module is independent of them.
"""

import importlib.metadata
import platform
import re
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from pprint import pformat
from typing import Any

import jinja2

from models.model_ids import is_run_model
from phi3_ui.chat.context import drop_oldest_turns
from phi3_ui.chat.conversation import Answer, Conversation, Turn, TurnRequest
from phi3_ui.chat.types import ChatRequest
from phi3_ui.contracts.base import PROGRAMS, Contract, RecordedAnswer
from phi3_ui.contracts.declaration import ModelDeclaration
from phi3_ui.contracts.registry import find_contract
from phi3_ui.prompts.tokenization import frozen_template_date

_WIDTH = 100
_BLANK_LINES = re.compile(r"\n{4,}")
_PASSWORD = re.compile(r"://[^/?#]*@|password=|token=", re.IGNORECASE)


def render_program(
    conversation: Conversation,
    turn_id: str,
    declaration: ModelDeclaration,
    tracking_uri: str,
    template: str | None = None,
) -> str:
    """Return a Python program that asks for a turn's answer again and prints its text.

    The program needs mlflow and the model's requirements. `declaration` is that of the model that answered; `template` is the
    prompt template chosen for it, for a turn that does not name one. A tracking URI with a password is left out of the program.

    Raises KeyError if there is no such turn; ValueError if it has no answer, its request was not recorded or the model is not a
    chat model; NoTemplateError and TemplateError as in the original request.
    """
    contract = find_contract(declaration)
    if contract is None:
        raise ValueError("the model is not a chat model")
    recorded = _read_turn(conversation, conversation.get_turn(turn_id))
    request = _rebuild_request(recorded)
    with frozen_template_date(recorded.request.asked_at):
        call = contract.request_builder(declaration, template)(request)
    answer = RecordedAnswer(declaration, request, call, recorded.answer.usage)
    program = _load_template(contract.program_template).render(
        header=[*_build_header(recorded, contract, answer)],
        model_uri=_build_model_uri(recorded),
        tracking_uri=None if _PASSWORD.search(tracking_uri) else tracking_uri,
        data=call.data,
        params=call.params,
        stops=list(call.stop_strings),
        declaration=declaration,
        **contract.program_values(answer),
    )
    return _BLANK_LINES.sub("\n\n\n", program)  # literals contain no raw line breaks, so they are unaffected


def list_installed_versions(contract: Contract) -> Mapping[str, str]:
    """Return the versions of Python and of the installed packages that determine the text of an answer."""
    versions = {"Python": platform.python_version()}
    for name in ("mlflow", *contract.packages):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # the model runs on another machine
    return versions


class _Code(str):
    """Text that is valid Python anywhere in a template."""

    __slots__ = ()


def _literal(value: Any) -> _Code:
    """Jinja filter: return `value` as a Python literal."""
    if isinstance(value, jinja2.Undefined):
        str(value)  # raises UndefinedError, which its repr does not
    return _Code(pformat(value, width=_WIDTH, sort_dicts=False))


def _comment(text: str) -> _Code:
    """Jinja filter: return `text` as comment lines, whatever it contains."""
    visible = "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
    lines = textwrap.wrap(visible, _WIDTH, break_long_words=False, break_on_hyphens=False)
    return _Code("\n".join(f"# {line}" for line in lines))


def _require_code(value: Any) -> _Code:
    """Reject template expressions that pass through neither filter, so that no text becomes code."""
    if not isinstance(value, _Code):
        raise jinja2.TemplateRuntimeError("every expression must pass through the filter `literal` or `comment`")
    return value


@lru_cache(maxsize=32)
def _load_template(path: Path) -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([path.parent, PROGRAMS]),
        undefined=jinja2.StrictUndefined,
        finalize=_require_code,
        autoescape=False,  # noqa: S701 (the output is Python, not HTML; see _require_code)
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"literal": _literal, "comment": _comment}
    return environment.get_template(path.name)


@dataclass(frozen=True)
class _RecordedTurn:
    """A turn with a recorded request and a recorded answer."""

    conversation: Conversation
    id: str
    request: TurnRequest
    answer: Answer


def _read_turn(conversation: Conversation, turn: Turn) -> _RecordedTurn:
    if turn.request is None or turn.answer is None:
        raise ValueError("the turn has no answer with a recorded request")
    return _RecordedTurn(conversation, turn.id, turn.request, turn.answer)


def _build_model_uri(turn: _RecordedTurn) -> str:
    model_id = turn.request.model_id
    return model_id if is_run_model(model_id) else f"models:/{model_id}"


def _rebuild_request(turn: _RecordedTurn) -> ChatRequest:
    """Return the request as it was sent to the model: without the turns that did not fit, and with the final token limit."""
    messages = turn.conversation.truncated_at(turn.id).build_messages(turn.request.system)
    params = turn.request.params
    if use := turn.answer.context:
        messages = drop_oldest_turns(messages, use.omitted_turns)
        params = replace(params, max_tokens=use.max_tokens or params.max_tokens)
    return ChatRequest(messages, params, turn.request.template, prefix=turn.request.prefix)


def _build_header(turn: _RecordedTurn, contract: Contract, answer: RecordedAnswer) -> Iterator[str]:
    """Yield the lines of the program's header comment."""
    versions = ", ".join(f"{name} {version}" for name, version in list_installed_versions(contract).items())
    yield f"Reproduces an answer of {turn.answer.model}; needs mlflow and the model's requirements:"
    yield f"  mlflow.pyfunc.get_model_dependencies({_build_model_uri(turn)!r})"
    yield f"Answered on {datetime.fromtimestamp(turn.request.asked_at, UTC):%Y-%m-%d at %H:%M} UTC. Written with {versions}."
    if (use := turn.answer.context) and use.omitted_turns:
        yield f"The oldest {use.omitted_turns} turns did not fit into the model's context and are left out."
    if use and use.max_tokens:
        yield f"Only {use.max_tokens} tokens were left for the answer, fewer than requested."
    if turn.request.prefix:
        yield "The model was asked to continue an answer: this prints only the continuation; the beginning is at the end of the prompt."
    yield _describe_repeatability(contract, answer)
    if turn.answer.error or turn.answer.finish_reason in ("cancelled", "timeout"):
        yield "That answer was cut off; this program lets the model finish, so it prints more."
    yield from contract.caveats(answer)


def _describe_repeatability(contract: Contract, answer: RecordedAnswer) -> str:
    """Return a sentence on whether the program should print the same text."""
    supported = contract.supported_params(answer.declaration)
    sent = {name: value for name, value in answer.request.params.as_dict().items() if name in supported}
    if sent.get("temperature") == 0:
        reason = "temperature 0 always picks the most likely token"
    elif "seed" in sent:
        reason = "the sampling is seeded"
    elif {"temperature", "seed"} & supported:
        return "The text will probably differ: the request had neither temperature 0 nor a seed."
    else:
        return "Whether the text is the same depends on the model: it supports neither temperature nor seed."
    if not contract.is_repeatable:
        return f"The text should be the same ({reason}) if the model's own code respects that."
    return f"The text should be identical ({reason}) with these versions and the same kind of processor."
