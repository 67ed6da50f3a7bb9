"""Shared parts of the commands: services, model lookup, common options, and output."""

import errno
import json
import logging
import os
import re
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import wraps
from typing import Any

import click

from models.store_features import find_features
from models.store_state import redact_passwords
from phi3_ui.chat.sampling_params import SAMPLING_PARAMS, SamplingParam, parse_params
from phi3_ui.chat.types import GenerationParams
from phi3_ui.errors import UserError
from phi3_ui.host.pool import Pool
from phi3_ui.i18n.translate import tr
from phi3_ui.prompts.templates import TEMPLATES
from phi3_ui.remote_servers import REMOTE_PREFIX
from phi3_ui.settings import Settings
from phi3_ui.sources.all_models import AllModels
from phi3_ui.sources.remote_source import RemoteSource
from phi3_ui.sources.store_source import StoreSource
from phi3_ui.store.errors import translate_store_errors
from phi3_ui.store.registry.admission import open_admission
from phi3_ui.store.registry.cards import ModelEntry
from phi3_ui.store.registry.catalogue import Catalogue

Callback = Callable[..., Any]

_HINT_SECONDS = 3.0
_FIRST_REQUEST = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}
"""Retry and timeout limits of MLflow's client: a refused connection is reported after about five seconds."""


@dataclass(frozen=True)
class App:
    """The services of a command."""

    settings: Settings
    catalogue: Catalogue
    remote: RemoteSource

    @contextmanager
    def open_models(self, max_loaded: int = 1) -> Iterator[AllModels]:
        """Open the models for the duration of the block; at most `max_loaded` of them are loaded at the same time."""
        settings, admission = self.settings, open_admission(self.settings)
        pool = Pool(settings.logs, max_loaded, settings.idle_seconds, admission.admit)
        try:
            yield AllModels(StoreSource(settings, self.catalogue, admission, pool), self.remote)
        finally:
            pool.close()

    def find(self, text: str) -> ModelEntry:
        """Return the model that a MODEL argument names. Raises UserError: no_such_model, remote_gone, or why it is absent."""
        if text.startswith(REMOTE_PREFIX):
            return self.remote.find(text)
        entry = self._find_stored(text)
        return self.remote.add_server_details(entry) if entry.is_remote else entry

    def find_stored(self, text: str) -> ModelEntry:
        """Like `find`, but only for models of the tracking store. Raises UserError: also remote_not_registered."""
        entry = self.find(text)
        if entry.is_unlogged:
            raise UserError("remote_not_registered", model=entry.name)
        return entry

    def _find_stored(self, text: str) -> ModelEntry:
        try:
            return self.catalogue.find(text)
        except UserError as error:
            if error.code not in ("model_gone", "no_model"):
                raise
        entries = self.catalogue.list_models()
        found = next((entry for entry in entries if entry.name == text), None)
        if found is None:
            reason = self.catalogue.explain_absence(text, is_empty=not entries)
            raise reason or UserError("no_such_model", model=text)
        return found


def pass_app(function: Callback) -> Callback:
    """Call a command function with the App as its first argument. Its return value is the exit code; None means 0."""

    def call(settings: Settings, **options: Any) -> Any:
        check_store_responds(settings.tracking_uri)
        with closing(RemoteSource(settings)) as remote:
            return function(App(settings, Catalogue(settings.tracking_uri, settings.catalogue), remote), **options)

    return wraps(function)(pass_settings(call))


def pass_settings(function: Callback) -> Callback:
    """Like `pass_app`, but pass only the Settings: for commands that do not query the store."""

    @wraps(function)
    def call(**options: Any) -> Any:
        # These libraries would only log what the error message says anyway.
        for library in ("mlflow", "alembic", "phi3_ui.host.hosted_model"):
            logging.getLogger(library).setLevel(logging.CRITICAL)
        logging.getLogger("phi3_ui.host.remote").setLevel(logging.ERROR)  # likewise, except for unexpected errors
        settings = Settings.read()
        with translate_errors(settings):
            settings.logs.mkdir(parents=True, exist_ok=True)
            return function(settings, **options)

    return call


def check_store_responds(tracking_uri: str) -> None:
    """Raise UserError("store_unreachable") if the store's server does not respond, sooner than MLflow's client gives up.

    The client retries for minutes; after a few seconds, a hint tells the user what the command is waiting for.
    """
    if not tracking_uri.startswith(("http:", "https:")):
        return
    sentence = tr("en", "wait.store", uri=redact_passwords(tracking_uri))
    hint = threading.Timer(_HINT_SECONDS, print, [sentence], {"file": sys.stderr})
    hint.daemon = True
    hint.start()
    try:
        with _default_environment(_FIRST_REQUEST), translate_store_errors(tracking_uri):
            find_features(tracking_uri)
    finally:
        hint.cancel()


@contextmanager
def _default_environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for the duration of the block, unless they are set already."""
    unset = {name: value for name, value in variables.items() if name not in os.environ}
    os.environ.update(unset)
    try:
        yield
    finally:
        for name in unset:
            os.environ.pop(name, None)


@contextmanager
def translate_errors(settings: Settings) -> Iterator[None]:
    """Turn every exception of the block into a UserError, except for a closed pipe and usage errors.

    The traceback of an unexpected error goes to command.log.
    """
    try:
        yield
    except (UserError, BrokenPipeError, click.ClickException):
        raise
    except (PermissionError, NotADirectoryError, FileExistsError) as error:
        raise UserError("not_writable", folder=str(error.filename or settings.home)) from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise UserError("output_write_failed", detail=str(error.strerror)) from error
        with (settings.logs / "command.log").open("a", encoding="utf-8") as log:
            traceback.print_exc(file=log)
        raise UserError("unexpected", detail=type(error).__name__) from error


model_argument = click.argument("model")


def json_option(content: str) -> Callable[[Callback], Callback]:
    """Declare the flag --json, passed as `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help=f"Print {content}.")


# Control characters that a terminal would interpret, except tab and newline.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def strip_control_chars(text: str) -> str:
    """Make `text` from a model or a store safe for a terminal: replace its control characters."""
    return _CONTROL.sub("�", text)


def single_line(name: str) -> str:
    """Return `name` on one line, safe for a terminal."""
    return strip_control_chars(" ".join(name.split()))


def print_json(value: object) -> None:
    """Print `value` as indented JSON. Values without a JSON type are printed as strings, times in ISO 8601."""
    print(json.dumps(value, indent=2, ensure_ascii=False, default=_as_text))


def _as_text(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


@dataclass(frozen=True)
class AnswerOptions:
    """The options for generating an answer."""

    system: str
    """The system prompt; empty means none."""
    template: str | None
    """The prompt template, for a model that declares none."""
    params: GenerationParams

    def check(self, entry: ModelEntry) -> None:
        """Raise UserError: unsupported_option if the model does not support an option, no_template if it needs a template."""
        if self.template and not entry.requires_template:
            raise UserError("unsupported_option", model=entry.name, option="--template")
        if entry.requires_template and not (self.template or entry.template):
            raise UserError("no_template", model=entry.name, detail=", ".join(TEMPLATES))
        for name in self.params.as_dict():
            if name not in entry.supported_params:
                raise UserError("unsupported_option", model=entry.name, option=f"--{name.replace('_', '-')}")


def answer_options(function: Callback) -> Callback:
    """Declare the options of AnswerOptions, passed as `options`. An omitted parameter takes the model's own default.

    The command raises UserError: invalid_param, bad_seed.
    """

    @wraps(function)
    def call(*, system: str, template: str | None, **others: Any) -> Any:
        params = parse_params({param.name: others.pop(param.name) for param in SAMPLING_PARAMS})
        return function(options=AnswerOptions(system, template, params), **others)

    declarations: list[Callable[[Callback], Callback]] = [
        click.option("--system", default="", metavar="TEXT", help="The system prompt."),
        click.option(
            "--template", type=click.Choice([*TEMPLATES]), help="The prompt template, for a model that declares none."
        ),
        *map(_sampling_option, SAMPLING_PARAMS),
    ]
    command: Callback = call
    for declare in reversed(declarations):
        command = declare(command)
    return command


def _sampling_option(param: SamplingParam) -> Callable[[Callback], Callback]:
    is_list = param.kind == "strings"
    # The help of a parameter without a default says what an empty field means, which applies to the page only.
    meaning = f" {tr('en', param.help_key)}." if param.help_key and param.default is not None else ""
    return click.option(
        f"--{param.name.replace('_', '-')}",
        type=param.python_type,
        multiple=is_list,
        metavar="TEXT" if is_list else "N",
        help="Stop before this text; may be repeated." if is_list else f"Range: {param.interval}.{meaning}",
    )
