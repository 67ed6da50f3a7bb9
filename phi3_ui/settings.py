"""Every environment variable the app reads, typed, read once."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import overload
from urllib.parse import urlsplit

from phi3_ui.errors import UserError

ROOT = Path(__file__).resolve().parent.parent

_LOCAL = ("127.0.0.1", "localhost", "::1")

MLFLOW_UI_PORT = 5001  # MLflow's own default, 5000, is often another server's


@dataclass(frozen=True)
class Settings:
    """`home` holds all the app writes: weights, builds, logs and, unless MLFLOW_TRACKING_URI is set, the store.

    `preset_named`: PHI3_UI_PRESET was set, so its models are wanted even where the store has others. `device` is what
    ONNX models are fetched and built for. `manage`: visitors may add, promote and tag models. `max_answers` may run or wait
    for one model, each for `answer_seconds` at most; `cache_mb` is kept of the prompts that one has read (0: an eighth of
    the memory). `logins` are those who may come in, with their passwords; empty: everybody may. `mlflow_url` is where a browser finds MLflow's own UI on this store, without a slash at its end; None: nowhere.
    """

    home: Path
    tracking_uri: str
    artifacts: str | None
    preset: str
    preset_named: bool
    device: str
    manage: bool
    server_name: str
    server_port: int | None
    open_browser: bool
    max_loaded_models: int
    idle_seconds: int
    max_answers: int
    answer_seconds: int
    cache_mb: int
    mlflow_url: str | None
    logins: tuple[tuple[str, str], ...] = ()

    @property
    def logs(self) -> Path:
        return self.home / "logs"

    @property
    def catalogue(self) -> Path:
        return self.home / "catalogue"

    @classmethod
    def read(cls, environment: Mapping[str, str] | None = None) -> "Settings":
        """Settings from `environment` (default: the process's). UserError("bad_setting") where a number is none or too small."""
        env = os.environ if environment is None else environment
        home = Path(env.get("PHI3_UI_HOME") or ROOT / "data").resolve()
        own_store = f"sqlite:///{home / 'mlflow.db'}"
        tracking_uri = env.get("MLFLOW_TRACKING_URI") or own_store
        server_name = env.get("GRADIO_SERVER_NAME") or "127.0.0.1"
        here = server_name in _LOCAL
        return cls(
            home=home,
            tracking_uri=tracking_uri,
            # SQLite's own default would be ./mlruns, wherever the process happens to stand.
            artifacts=(home / "artifacts").as_uri() if tracking_uri == own_store else None,
            preset=env.get("PHI3_UI_PRESET") or "demo",
            preset_named=bool(env.get("PHI3_UI_PRESET")),
            device=_one_of(env, "PHI3_UI_DEVICE", ("cpu", "cuda", "directml")),
            # Who can reach a page on this machine alone is who runs it.
            manage=_one_of(env, "PHI3_UI_MANAGE", ("1", "0") if here and "SPACE_ID" not in env else ("0", "1")) == "1",
            server_name=server_name,
            server_port=_whole(env, "GRADIO_SERVER_PORT", None),
            open_browser=_one_of(env, "PHI3_UI_OPEN_BROWSER", ("1", "0")) == "1" and "SPACE_ID" not in env,
            max_loaded_models=_whole(env, "PHI3_UI_MAX_LOADED_MODELS", 2),
            idle_seconds=_whole(env, "PHI3_UI_IDLE_SECONDS", 900),
            max_answers=_whole(env, "PHI3_UI_MAX_ANSWERS", 32),
            answer_seconds=_whole(env, "PHI3_UI_ANSWER_SECONDS", 600),
            cache_mb=_whole(env, "PHI3_UI_CACHE_MB", 0),
            logins=_logins(env),
            mlflow_url=_mlflow_url(env, tracking_uri, here and "SPACE_ID" not in env),
        )


@overload
def _whole(env: Mapping[str, str], name: str, default: int) -> int: ...
@overload
def _whole(env: Mapping[str, str], name: str, default: None) -> int | None: ...
def _whole(env: Mapping[str, str], name: str, default: int | None) -> int | None:
    """The whole number, 1 or more, that variable `name` holds."""
    value = env.get(name)
    if not value:
        return default
    most = 65535 if name == "GRADIO_SERVER_PORT" else None
    if not value.isdecimal() or int(value) < 1 or (most and int(value) > most):
        raise UserError("bad_setting", name=name, value=value, wanted=f"1 to {most}" if most else "1 or more")
    return int(value)


def _one_of(env: Mapping[str, str], name: str, values: tuple[str, ...]) -> str:
    """What variable `name` holds, which is one of `values`; the first if it holds nothing."""
    value = env.get(name) or values[0]
    if value not in values:
        raise UserError("bad_setting", name=name, value=value, wanted=" / ".join(values))
    return value


def _logins(env: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """The names and passwords that PHI3_UI_LOGINS holds: name:password, separated by commas or lines."""
    found = list[tuple[str, str]]()
    for one in filter(None, (part.strip() for part in (env.get("PHI3_UI_LOGINS") or "").replace("\n", ",").split(","))):
        name, _, password = one.partition(":")
        if not re.fullmatch(r"[\w.@+-]{1,64}", name) or not password or name in dict(found):
            raise UserError(
                "bad_setting", name="PHI3_UI_LOGINS", value=f"{name}:…", wanted="name:password,name:password"
            )
        found.append((name, password))
    return tuple(found)


def _mlflow_url(env: Mapping[str, str], tracking_uri: str, here: bool) -> str | None:
    """What PHI3_UI_MLFLOW_URL holds; else the tracking server; else, for a browser `here`, what `mlflow-ui` serves."""
    if value := env.get("PHI3_UI_MLFLOW_URL"):
        url = _web(value)
        if url is None:
            raise UserError("bad_setting", name="PHI3_UI_MLFLOW_URL", value=value, wanted="http://… or https://…")
        return url
    if tracking_uri.startswith(("http:", "https:")):
        return _web(tracking_uri)
    # A page that others open would send them to their own machine.
    return f"http://127.0.0.1:{MLFLOW_UI_PORT}" if here and not tracking_uri.startswith("databricks") else None


def _web(value: str) -> str | None:
    """The URL of a page without its user and password, which links must not show; None if it is none."""
    try:
        parts = urlsplit(value)
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment:
        return None
    host = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{host}{f':{port}' if port else ''}{parts.path.rstrip('/')}"
