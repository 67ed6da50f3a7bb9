"""One answer as a program: it asks the model the same again, by MLflow alone."""

import importlib.metadata
import platform
import re
import textwrap
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pprint import pformat
from typing import Any

from phi3_ui.chat.context import without
from phi3_ui.chat.conversation import Conversation, Turn
from phi3_ui.chat.types import ChatRequest
from phi3_ui.contracts.base import PyfuncCall
from phi3_ui.contracts.completions import CompletionsContract
from phi3_ui.contracts.declaration import ModelDeclaration
from phi3_ui.contracts.onnx_prompt import OnnxPromptContract
from phi3_ui.contracts.pipeline_chat import PipelineChatContract
from phi3_ui.contracts.registry import find_contract
from phi3_ui.export import reproduce_code as code
from phi3_ui.prompts.tokenization import frozen_template_date
from phi3_ui.runtime.pipeline_kv_cache import PREFILL_CHUNK
from phi3_ui.runtime.sampling import generate_arguments

_PIPELINES = (PipelineChatContract.name, CompletionsContract.name)
_TURN = 4096  # tokens: a Phi-3 of a longer context must read a longer prompt whole (see pipeline_slots)
_WIDTH = 100


def render_program(
    conversation: Conversation,
    turn_id: str,
    declared: ModelDeclaration,
    tracking_uri: str,
    versions: Mapping[str, str],
    template: str | None = None,
) -> str:
    """A Python program that asks for a turn's answer again and prints its text; it needs mlflow and the model's packages.

    `declared` is of the model that was asked (turn.asked.model_id); `template` is the one picked for it, where the turn
    names none; `versions` are those of packages_of. KeyError if there is no such turn; ValueError if nothing is known of
    how it was asked, it has no answer, or the model is no chat model; NoTemplateError and TemplateError as in asking it.
    """
    turn = conversation.turn(turn_id)
    contract = find_contract(declared)
    if not (turn.asked and turn.answer and contract):
        raise ValueError("there is no answer of a known model to ask for again")
    request = _request(conversation, turn)
    with frozen_template_date(turn.asked.at):
        asked = contract.request_builder(declared, template)(request)
    kind = "ours" if OnnxPromptContract.matches(declared) and OnnxPromptContract.is_ours(declared) else contract.name
    head = [
        f"An answer of {turn.answer.model}, asked again by a program that needs mlflow and the model's requirements:",
        f"  mlflow.pyfunc.get_model_dependencies({_uri(turn)!r})",
        f"Answered on {datetime.fromtimestamp(turn.asked.at, UTC):%Y-%m-%d at %H:%M} UTC. This was written with "
        f"{', '.join(f'{name} {version}' for name, version in versions.items())}.",
        *_said_of_context(turn),
        _expectation(turn, declared, kind),
        *_limits(turn, declared, kind),
    ]
    values: dict[str, Any] = {"MODEL": _uri(turn), "DATA": asked.data}
    if kind in ("ours", OnnxPromptContract.name):
        values["PARAMS"] = asked.params
    body = (
        _pipeline(turn, request, declared, asked, kind, values)
        if kind in _PIPELINES
        else _other(declared, asked, kind, values)
    )
    tracking = _tracking(tracking_uri)
    imports = [name for name, used in (("os", "os.environ[" in tracking), ("re", "re.sub(" in body)) if used]
    libraries = ["mlflow", *(["torch"] if "torch." in body else [])]
    return "\n".join(
        [
            "# -*- coding: utf-8 -*-",  # else Python would look for it in the line below, where a name is
            *(line for text in head for line in _comment(text)),
            "",
            *(f"import {name}" for name in imports),
            *([""] if imports else []),
            *(f"import {name}" for name in libraries),
            "",
            *(f"{name} = {pformat(value, width=_WIDTH, sort_dicts=False)}" for name, value in values.items()),
            "",
            f"mlflow.set_tracking_uri({tracking})",
            "model = mlflow.pyfunc.load_model(MODEL)",
            body.rstrip("\n"),
            "",
        ]
    )


def required_packages(declared: ModelDeclaration) -> dict[str, str]:
    """The versions here of Python and of the packages that make an answer of such a model, as far as they are installed."""
    names = ["mlflow"]
    if "transformers" in declared.flavors:
        names += ["transformers", "torch"]
    elif OnnxPromptContract.matches(declared) and OnnxPromptContract.is_ours(declared):
        names += ["onnxruntime-genai", "tokenizers", "numpy"]
    found = {"Python": platform.python_version()}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _uri(turn: Turn) -> str:
    assert turn.asked
    return f"models:/{turn.asked.model_id}"


def _request(conversation: Conversation, turn: Turn) -> ChatRequest:
    """What the model's adapter made of the turn: without the turns that did not fit, with what was left for the answer."""
    assert turn.asked
    assert turn.answer
    messages, params = conversation.truncated_at(turn.id).messages(turn.asked.system), turn.asked.params
    if use := turn.answer.context:
        messages = without(messages, use.left_out)
        params = replace(params, max_tokens=use.max_tokens or params.max_tokens)
    return ChatRequest(messages, params, turn.asked.template)


def _tracking(uri: str) -> str:
    """Code for the tracking URI; one that holds a password is no part of a program that people hand on."""
    secret = re.search(r"://[^/?#]*@|password=|token=", uri, re.IGNORECASE)
    return 'os.environ["MLFLOW_TRACKING_URI"]' if secret else repr(uri)


def _comment(text: str) -> list[str]:
    """`text` as comment lines, whatever it holds."""
    visible = "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
    return [f"# {line}" for line in textwrap.wrap(visible, _WIDTH, break_long_words=False, break_on_hyphens=False)]


def _said_of_context(turn: Turn) -> list[str]:
    assert turn.answer
    use, said = turn.answer.context, list[str]()
    if use and use.left_out:
        said.append(f"The oldest turns ({use.left_out}) did not fit into the model's context, and are not in it.")
    if use and use.max_tokens:
        said.append(f"There was room for {use.max_tokens} tokens of answer, fewer than wanted.")
    return said


def _expectation(turn: Turn, declared: ModelDeclaration, kind: str) -> str:
    """Can the text be expected to be the same?"""
    assert turn.asked
    contract, params = find_contract(declared), turn.asked.params
    assert contract
    honoured = {name: value for name, value in params.as_dict().items() if name in contract.supported_params(declared)}
    if honoured.get("temperature") == 0:
        why = "temperature 0: always the likeliest token"
    elif "seed" in honoured:
        why = "drawn by a seed"
    elif {"temperature", "seed"} & contract.supported_params(declared):
        return "The text will hardly be the same: it was not asked for with temperature 0, nor with a seed."
    else:
        return "Whether the text is the same is up to the model: it takes neither a temperature nor a seed."
    if kind not in (*_PIPELINES, "ours"):
        return f"The text should be the same ({why}), if the model's own code goes by that."
    return f"The same text can be expected ({why}), with these versions and the same kind of processor."


def _limits(turn: Turn, declared: ModelDeclaration, kind: str) -> list[str]:
    """What may make the text another one all the same."""
    assert turn.answer
    assert turn.asked
    answer, said = turn.answer, list[str]()
    if answer.error or answer.finish_reason in ("cancelled", "timeout"):
        said.append("That answer did not come to its end: this program goes on to it, and so gives more.")
    if kind not in _PIPELINES:
        return said
    if turn.asked.params.seed is None and answer.usage and answer.usage.cached_tokens:
        said.append(
            f"Of its prompt the app had read {answer.usage.cached_tokens} tokens before, perhaps in other pieces than are "
            "read here: numbers may differ in their last digits, and where two tokens were nearly as likely so may the text."
        )
    if kind == PipelineChatContract.name and "strftime_now" in str(declared.metadata.get("chat_template")):
        said.append("The model's template writes today's date into the prompt: on another day it is another prompt.")
    return said


def _pipeline(
    turn: Turn, request: ChatRequest, declared: ModelDeclaration, asked: PyfuncCall, kind: str, values: dict[str, Any]
) -> str:
    """The code for a model of the transformers flavour; adds what it needs to `values`."""
    assert turn.answer
    params = request.params
    arguments = generate_arguments(params)
    seeded = arguments.pop("custom_generate", None) and arguments.get("do_sample") is not False
    penalised = arguments.pop("logits_processor", None)
    tokens = turn.answer.usage.prompt_tokens if turn.answer.usage else 0
    if PREFILL_CHUNK < tokens <= _TURN:
        arguments["prefill_chunk_size"] = PREFILL_CHUNK  # as the app reads it: in other pieces the last digits differ
    guard = code.GUARD if kind == PipelineChatContract.name and not declared.metadata.get("special_tokens") else ""
    if not (arguments or seeded or penalised or asked.stops):
        return guard + code.PREDICT[kind] + code.PRINT
    values["GENERATE"] = arguments
    if seeded:
        values["SEED"] = params.seed
    if penalised:
        values |= {"PRESENCE": params.presence_penalty or 0.0, "FREQUENCY": params.frequency_penalty or 0.0}
    stops = bool(asked.stops)
    if stops:
        values["STOP"] = list(asked.stops)
    parts = {
        code.STOPS: stops,
        guard: True,
        code.SAID: stops,
        code.TAP: True,
        code.START: penalised or stops,
        code.PENALTIES: penalised,
        code.CRITERION: stops,
        code.SEED: seeded,
        code.GENERATED: True,
        code.DECODED: stops,
        code.TAP_END: True,
        code.PREDICT[kind]: True,
        code.TAPPED_TEXT: stops,
        code.PRINT: True,
    }
    return "".join(part for part, wanted in parts.items() if wanted)


def _other(declared: ModelDeclaration, asked: PyfuncCall, kind: str, values: dict[str, Any]) -> str:
    """The code for a PythonModel, ours or of other people's; adds what it needs to `values`."""
    if kind == "ours":
        return code.PROMPT
    stops = bool(asked.stops)
    if stops:
        values["STOP"] = list(asked.stops)
    if kind == OnnxPromptContract.name:
        given = code.GIVEN_STREAM if declared.streamable else code.GIVEN_WHOLE
    else:
        given = code.GIVEN_BY_CLASS
    parts = {
        code.STOPS: stops,
        code.READ: code.TEXTS[kind] == code.TEXTS[OnnxPromptContract.name],
        given: True,
        code.TEXTS[kind]: True,
        code.BREAK: stops,
        code.CUT: stops,
        code.PRINT_STRIPPED: True,
    }
    return "".join(part for part, wanted in parts.items() if wanted)
