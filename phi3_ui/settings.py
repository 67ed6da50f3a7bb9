"""The app's settings: every environment variable that it reads, typed, validated, and read once."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Self, get_args
from urllib.parse import urlsplit

from pydantic import SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, EnvSettingsSource, NoDecode, SettingsConfigDict

from phi3_ui.addresses import check_tracking_uri, page_url, parse_host
from phi3_ui.errors import UserError
from phi3_ui.logins import Logins, parse_logins, read_logins
from phi3_ui.remote_servers import RemoteServers, parse_remote_servers, read_remote_servers
from phi3_ui.setting_defaults import (
    LOOPBACK_HOSTS,
    LOOPBACK_NETWORKS,
    PRIVATE_NETWORKS,
    default_home,
    default_mlflow_url,
    is_personal,
    own_store_uri,
)
from phi3_ui.setting_types import Allowed, Count, Device, Fingerprints, Limit, Names, Networks, Port, Switch, variable


class Settings(BaseSettings):
    """Immutable settings. An empty variable counts as unset.

    Create them with `read`, which turns pydantic's errors into a UserError.
    """

    model_config = SettingsConfigDict(
        frozen=True, populate_by_name=True, env_ignore_empty=True, case_sensitive=True, validate_default=True
    )

    space_id: str = variable("SPACE_ID", "")
    """The Hugging Face Space that the app runs on; empty elsewhere. The Space's host sets it."""

    home: Path = variable("PHI3_UI_HOME", lambda fields: default_home(is_space=bool(fields["space_id"])))
    """Folder of everything that the app writes: weights, builds, logs, journal and, by default, the tracking store."""

    bucket: Path | None = variable("PHI3_UI_BUCKET", None)
    """A folder, such as a mounted bucket, that persists the store in `home`; None: the disk of `home` is persistent."""

    tracking_uri: str = variable("MLFLOW_TRACKING_URI", lambda fields: own_store_uri(fields["home"]))
    """MLflow's tracking store; by default a SQLite file in `home`."""

    preset: str = variable("PHI3_UI_PRESET", "demo")
    """The preset of models/presets.toml whose models are logged to a store without chat models."""

    device: Device = variable("PHI3_UI_DEVICE", "cpu")
    """The device that ONNX models are downloaded or built for."""

    server_name: str = variable("GRADIO_SERVER_NAME", "127.0.0.1")
    """The address to listen on."""

    server_port: Annotated[Port | None, Allowed("1 to 65535")] = variable("GRADIO_SERVER_PORT", None)
    """The port to listen on; None: the first free one from 7860."""

    root_path: str = variable("GRADIO_ROOT_PATH", "")
    """The path or URL under which a proxy serves the page, stripping it from requests; empty: none. A Space's host may set it."""

    trusted_proxies: Networks = variable(
        "PHI3_UI_TRUSTED_PROXIES", lambda fields: PRIVATE_NETWORKS if fields["space_id"] else LOOPBACK_NETWORKS
    )
    """Addresses and networks of proxies whose X-Forwarded-For and X-Forwarded-Proto are trusted."""

    hosts: Names = variable("PHI3_UI_HOSTS", ())
    """Additional host names by which browsers may reach the app; `*`: any."""

    manage: Switch = variable("PHI3_UI_MANAGE", is_personal)
    """Whether visitors may add, promote and tag models. Default: only if the page can be reached from this machine only."""

    open_browser: Switch = variable("PHI3_UI_OPEN_BROWSER", True)
    """Whether to open the page in a browser at start; never on a Space."""

    max_loaded_models: Count = variable("PHI3_UI_MAX_LOADED_MODELS", 2)
    """The maximum number of loaded models."""

    idle_seconds: Count = variable("PHI3_UI_IDLE_SECONDS", 900)
    """A model unused for this long is unloaded."""

    max_answers: Count = variable("PHI3_UI_MAX_ANSWERS", 32)
    """The maximum number of requests per model, running and queued together."""

    questions_per_minute: Limit = variable(
        "PHI3_UI_QUESTIONS_PER_MINUTE", lambda fields: 10 if fields["space_id"] else 0
    )
    """The maximum number of questions per user and minute; 0: no limit."""

    answers_at_once: Limit = variable("PHI3_UI_ANSWERS_AT_ONCE", lambda fields: 2 if fields["space_id"] else 0)
    """The maximum number of answers per user running or queued concurrently, over all models; 0: no limit."""

    tokens_per_day: Limit = variable("PHI3_UI_TOKENS_PER_DAY", lambda fields: 100_000 if fields["space_id"] else 0)
    """The maximum number of prompt and completion tokens per user and day; 0: no limit."""

    requests_per_minute: Limit = variable(
        "PHI3_UI_REQUESTS_PER_MINUTE", lambda fields: 0 if is_personal(fields) else 3000
    )
    """The maximum number of requests of any kind per address and minute, except event streams; 0: no limit."""

    max_message_characters: Count = variable("PHI3_UI_MAX_MESSAGE_CHARACTERS", 1_000_000)
    """The maximum length of a question with its attached files, or of a system prompt."""

    max_request_mb: Count = variable("PHI3_UI_MAX_REQUEST_MB", 10)
    """The maximum size of a request in megabytes, except for imports."""

    max_import_mb: Count = variable("PHI3_UI_MAX_IMPORT_MB", lambda fields: 50 if fields["space_id"] else 200)
    """The maximum size of an imported file of chats in megabytes."""

    answer_seconds: Count = variable("PHI3_UI_ANSWER_SECONDS", 600)
    """The time limit of an answer in seconds."""

    grace_seconds: Limit = variable("PHI3_UI_GRACE_SECONDS", 30)
    """The time in seconds for which an answer continues after its page has lost the connection."""

    cache_mb: Limit = variable("PHI3_UI_CACHE_MB", 0)
    """Megabytes of KV cache for each model; 0: an eighth of the memory."""

    logins_file: Path | None = variable("PHI3_UI_LOGINS_FILE", None)
    """A file with one `name:hash` per line, added to `logins`."""

    model_folders: Names = variable("PHI3_UI_MODEL_FOLDERS", ())
    """Additional folders that models with third-party code may read and write."""

    model_variables: Names = variable("PHI3_UI_MODEL_VARIABLES", ())
    """Names of environment variables passed to models with third-party code, such as the key of a service that they call."""

    logins: Annotated[Logins, NoDecode] = variable("PHI3_UI_LOGINS", ())
    """Names and Argon2 password hashes of the page's users; without them and `oauth_client_id`, the page needs no login."""

    api_keys_file: Path | None = variable("PHI3_UI_API_KEYS_FILE", None)
    """A file with one `name:hash` per line, added to `api_keys`."""

    api_keys: Annotated[Logins, NoDecode] = variable("PHI3_UI_API_KEYS", ())
    """Names and Argon2 hashes of the API's users, as printed by `create-api-key`.

    Without them, the API needs no key if the page needs no login, and is closed otherwise.
    """

    oauth_client_id: str = variable("OAUTH_CLIENT_ID", "")
    """The app's client id at the OpenID provider, whose users may use the page; empty: no sign-in with the provider.

    A Space sets this variable and the three below if `hf_oauth: true` is in its README.
    """

    oauth_client_secret: SecretStr = variable("OAUTH_CLIENT_SECRET", "")
    """The app's client secret at the OpenID provider."""

    openid_provider_url: str = variable("OPENID_PROVIDER_URL", "https://huggingface.co")
    """The URL of the OpenID provider."""

    space_host: str = variable("SPACE_HOST", "")
    """The host names of the Space that the app runs on, separated by commas."""

    session_hours: Count = variable("PHI3_UI_SESSION_HOURS", 24)
    """The number of hours without a request after which a login ends."""

    trusted_models: Fingerprints = variable("PHI3_UI_TRUSTED_MODELS", ())
    """Fingerprints of the models whose own code is approved to run; see docs/trust.md."""

    judge: str = variable("PHI3_UI_JUDGE", "")
    """The model that judges answers: a model of the store, or `URL MODEL` for an OpenAI-compatible API; empty: none."""

    judge_key: SecretStr = variable("PHI3_UI_JUDGE_KEY", "")
    """The key for that API."""

    remote_servers_file: Path | None = variable("PHI3_UI_REMOTE_SERVERS_FILE", None)
    """A TOML file with one table per server, added to `remote_servers`."""

    remote_servers: Annotated[RemoteServers, NoDecode] = variable("PHI3_UI_REMOTE_SERVERS", ())
    """Remote servers with OpenAI-compatible APIs, as TOML; see docs/remote-models.md."""

    mlflow_url: str | None = variable("PHI3_UI_MLFLOW_URL", default_mlflow_url)
    """The URL of MLflow's own UI for this store, as a browser reaches it, without a trailing slash; None: there is none."""

    @property
    def preset_is_explicit(self) -> bool:
        """Whether PHI3_UI_PRESET is set, so that its models are logged even if the store has others."""
        return "preset" in self.model_fields_set

    @property
    def artifacts(self) -> str | None:
        """The artifact location of a new experiment in the app's own store, as a URI; None: the store decides.

        SQLite's own default is ./mlruns, which depends on the working directory.
        """
        parent = self.bucket.resolve() if self.bucket else self.home
        return (parent / "artifacts").as_uri() if self.uses_own_store else None

    @property
    def uses_own_store(self) -> bool:
        """Whether the tracking store is the SQLite file in `home`."""
        return self.tracking_uri == own_store_uri(self.home)

    @property
    def logs(self) -> Path:
        """Folder of the log files."""
        return self.home / "logs"

    @property
    def catalogue(self) -> Path:
        """Folder of the cached catalogue entries."""
        return self.home / "catalogue"

    @property
    def model_copies(self) -> Path:
        """Folder of the copies from which models are loaded."""
        return self.home / "loaded"

    @property
    def approvals(self) -> Path:
        """The file of the models approved on this machine."""
        return self.home / "trusted_models.json"

    @property
    def added_servers(self) -> Path:
        """The file of the remote servers added on the page."""
        return self.home / "remote_servers.json"

    @property
    def has_login(self) -> bool:
        """Whether the page requires a login."""
        return bool(self.logins or self.oauth_client_id)

    @property
    def is_single_user(self) -> bool:
        """Whether the only user of the page is the administrator: on this machine only, without a login."""
        return self.manage and not self.has_login and self.server_name in LOOPBACK_HOSTS and not self.space_id

    @classmethod
    def read(cls, environment: Mapping[str, str] | None = None) -> Self:
        """Read the settings from `environment` (default: the process's). Raises UserError("bad_setting")."""
        source = EnvSettingsSource(cls)
        variables = os.environ if environment is None else environment
        source.env_vars = {name: value for name, value in variables.items() if value}
        try:
            return cls(_build_sources=((source,), {}))  # type: ignore[call-arg]  # documented, but not a field
        except ValidationError as error:
            raise _bad_setting(cls, error) from error

    @field_validator("home")
    @classmethod
    def _resolve_home(cls, value: Path) -> Path:
        home = value.resolve()
        # In the URI of a database, SQLAlchemy decodes %20 to a space, and parses anything after a question mark as parameters.
        if unusable := re.search(r"%[0-9A-Fa-f]{2}|\?", str(home)):
            raise UserError("path_unusable", name="PHI3_UI_HOME", value=str(home), character=unusable[0])
        return home

    @field_validator("tracking_uri")
    @classmethod
    def _check_tracking_uri(cls, value: str) -> str:
        check_tracking_uri(value)
        return value

    @field_validator("open_browser")
    @classmethod
    def _no_browser_on_a_space(cls, value: bool, info: ValidationInfo) -> bool:
        return value and not info.data.get("space_id")

    @field_validator("logins", mode="before")
    @classmethod
    def _parse_logins(cls, value: object, info: ValidationInfo) -> object:
        logins = parse_logins("PHI3_UI_LOGINS", value) if isinstance(value, str) else value
        file = info.data.get("logins_file")
        return (*logins, *read_logins("PHI3_UI_LOGINS_FILE", file)) if file and isinstance(logins, tuple) else logins

    @field_validator("api_keys", mode="before")
    @classmethod
    def _parse_api_keys(cls, value: object, info: ValidationInfo) -> object:
        keys = parse_logins("PHI3_UI_API_KEYS", value, "plain_api_key") if isinstance(value, str) else value
        file = info.data.get("api_keys_file")
        if not file or not isinstance(keys, tuple):
            return keys
        return (*keys, *read_logins("PHI3_UI_API_KEYS_FILE", file, "plain_api_key"))

    @field_validator("remote_servers", mode="before")
    @classmethod
    def _parse_remote_servers(cls, value: object, info: ValidationInfo) -> object:
        name = "PHI3_UI_REMOTE_SERVERS"
        servers = parse_remote_servers(name, value) if isinstance(value, str) else value
        if (file := info.data.get("remote_servers_file")) and isinstance(servers, tuple):
            servers = (*servers, *read_remote_servers(f"{name}_FILE", file))
        names = [one.name for one in servers] if isinstance(servers, tuple) else []
        if twice := next((one for one in names if names.count(one) > 1), None):
            raise UserError("bad_setting", name=name, value=twice, wanted="one table per name")
        return servers

    @field_validator("logins")
    @classmethod
    def _check_names(cls, value: Logins, info: ValidationInfo) -> Logins:
        names = [name for name, _ in value]
        if twice := next((name for name in names if names.count(name) > 1), None):
            field = str(info.field_name)
            file = "_FILE" if info.data.get(f"{field}_file") else ""  # the two lists are merged
            name, wanted = f"PHI3_UI_{field.upper()}{file}", "one hash per name"
            raise UserError("bad_setting", name=name, value=f"{twice}:…", wanted=wanted)
        return value

    @field_validator("oauth_client_secret")
    @classmethod
    def _check_secret(cls, value: SecretStr, info: ValidationInfo) -> SecretStr:
        if bool(value.get_secret_value()) != bool(info.data.get("oauth_client_id")):
            wanted = "the secret that belongs to OAUTH_CLIENT_ID, or unset both"
            raise UserError("bad_setting", name="OAUTH_CLIENT_SECRET", value="…", wanted=wanted)
        return value

    @field_validator("openid_provider_url")
    @classmethod
    def _check_provider(cls, value: str) -> str:
        # Without TLS, anyone on the network path could impersonate the provider, except on this machine.
        url = page_url(value)
        if url is None or not (url.startswith("https:") or urlsplit(url).hostname in LOOPBACK_HOSTS):
            raise UserError("bad_setting", name="OPENID_PROVIDER_URL", value=value, wanted="https://…")
        return url

    @field_validator("hosts")
    @classmethod
    def _check_hosts(cls, value: Names) -> Names:
        hosts = {name: name if name == "*" else parse_host(name) for name in value}
        if wrong := next((name for name, host in hosts.items() if host is None), None):
            raise UserError(
                "bad_setting", name="PHI3_UI_HOSTS", value=wrong, wanted="names, such as chat.example, or *"
            )
        return tuple(host for host in hosts.values() if host)

    @field_validator("mlflow_url")
    @classmethod
    def _check_mlflow_url(cls, value: str | None) -> str | None:
        if value is None:
            return None
        url = page_url(value)
        if url is None:
            raise UserError("bad_setting", name="PHI3_UI_MLFLOW_URL", value=value, wanted="http://… or https://…")
        return url


def _bad_setting(settings: type[Settings], error: ValidationError) -> UserError:
    """Return the error for the first problem that pydantic found, with the variable and its allowed values."""
    problem = error.errors()[0]
    name = str(problem["loc"][0])
    field = next(field for field in settings.model_fields.values() if field.validation_alias == name)
    allowed = [item.values for item in field.metadata if isinstance(item, Allowed)]
    wanted = allowed[0] if allowed else " / ".join(map(str, get_args(field.annotation)))
    return UserError("bad_setting", name=name, value=str(problem["input"]), wanted=wanted)
