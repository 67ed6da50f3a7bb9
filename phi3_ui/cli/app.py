"""What the commands share: the services, finding a model, and values as JSON takes them."""

import argparse
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from phi3_ui.chat.types import GenerationParams
from phi3_ui.errors import UserError
from phi3_ui.host.protocol import ModelSpec
from phi3_ui.prompts.templates import TEMPLATES
from phi3_ui.settings import Settings
from phi3_ui.store.registry.cards import ModelEntry
from phi3_ui.store.registry.catalogue import Catalogue


@dataclass(frozen=True)
class App:
    settings: Settings
    catalogue: Catalogue

    def find(self, text: str) -> ModelEntry:
        """The model that a MODEL argument means. UserError: no_such_model, store_unreachable."""
        try:
            return self.catalogue.find(text)
        except UserError as error:
            if error.code not in ("model_gone", "no_model"):
                raise
        found = next((entry for entry in self.catalogue.list_models() if entry.name == text), None)
        if found is None:
            raise UserError("no_such_model", model=text)
        return found


Run = Callable[[App, argparse.Namespace], int | None]


def add_command(commands: Any, name: str, run: Run, words: str) -> argparse.ArgumentParser:
    """A command that `run` carries out; what that gives is the exit code."""
    parser: argparse.ArgumentParser = commands.add_parser(name, help=words, description=words)
    parser.set_defaults(run=run)
    return parser


def add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="id, name, name@alias, name/version or models:/ URI")


def add_json(parser: argparse.ArgumentParser, words: str) -> None:
    parser.add_argument("--json", action="store_true", help=words)


# What a terminal would obey, but for tab and new line.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def strip_control_chars(text: str) -> str:
    """`text` for a terminal: it may be anything that a model wrote or that a store holds."""
    return _CONTROL.sub("�", text)


def plain(name: str) -> str:
    """A name on one line."""
    return strip_control_chars(" ".join(name.split()))


def print_json(value: object) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False, default=_plain))


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def add_params(parser: argparse.ArgumentParser) -> None:
    """The settings of an answer; what is left out is left to the model."""
    parser.add_argument("--system", default="", metavar="TEXT", help="the system prompt")
    parser.add_argument("--template", choices=[*TEMPLATES], help="the prompt template of a model that declares none")
    for name, kind in _PARAMS.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, metavar="N")
    parser.add_argument("--stop", action="append", default=[], metavar="TEXT", help="end before it; may be repeated")


_PARAMS: dict[str, type] = {
    "temperature": float,
    "top_p": float,
    "top_k": int,
    "max_tokens": int,
    "seed": int,
    "repetition_penalty": float,
    "presence_penalty": float,
    "frequency_penalty": float,
}


def params_from_arguments(entry: ModelEntry, parsed: argparse.Namespace) -> GenerationParams:
    """What the arguments of add_params say. UserError: not_honoured for what the model does not take, no_template."""
    params = GenerationParams(**{name: getattr(parsed, name) for name in _PARAMS}, stop=tuple(parsed.stop))
    if parsed.template and not entry.requires_template:
        raise UserError("unsupported_option", model=entry.name, option="--template")
    if entry.requires_template and not (parsed.template or entry.template):
        raise UserError("no_template", model=entry.name, detail=", ".join(TEMPLATES))
    for name in params.as_dict():
        if name not in entry.supported_params:
            raise UserError("unsupported_option", model=entry.name, option=f"--{name.replace('_', '-')}")
    return params


def model_spec(app: App, entry: ModelEntry, parsed: argparse.Namespace) -> ModelSpec:
    template, cache_mb = parsed.template or entry.template, app.settings.cache_mb
    return ModelSpec(entry.model_id, entry.name, entry.uri, entry.contract, entry.tracking_uri, template, cache_mb)
