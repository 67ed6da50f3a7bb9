"""The image and the Compose file in deploy/, as far as they can be checked without a container engine.

compose-spec.json is schema/compose-spec.json of github.com/compose-spec/compose-spec at 170098ba (Apache-2.0).
"""

import fnmatch
import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml  # type: ignore[import-untyped]
from packaging.utils import canonicalize_name

from phi3_ui.paths import ROOT
from phi3_ui.settings import Settings
from tests.support.lock import read_pins, read_requirements

DEPLOY = ROOT / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
SETTINGS = {str(field.validation_alias) for field in Settings.model_fields.values()}


def _read_instructions() -> Iterator[tuple[str, str]]:
    text = re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.MULTILINE))
    for line in filter(None, text.splitlines()):
        name, _, rest = line.partition(" ")
        yield name, rest


def _read_variables() -> dict[str, str]:
    return dict(part.split("=", 1) for name, rest in _read_instructions() if name == "ENV" for part in rest.split())


def health_check() -> list[str]:
    """Return the command of the image's health check."""
    (check,) = (rest for name, rest in _read_instructions() if name == "HEALTHCHECK")
    command = json.loads(check.partition("CMD ")[2])
    assert isinstance(command, list)
    return command


@pytest.mark.parametrize("file", ["Dockerfile", "ray/Dockerfile"])
def test_hadolint_finds_nothing(file: str) -> None:
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    assert hadolint, "run `make .venv/installed-dev` to install it"
    lint = subprocess.run([hadolint, str(DEPLOY / file)], capture_output=True, text=True)
    assert lint.returncode == 0, lint.stdout


def test_the_image_runs_the_app_unprivileged_with_a_supported_python() -> None:
    instructions = list(_read_instructions())
    users = [rest for name, rest in instructions if name == "USER"]
    assert users == ["1000:1000"]
    assert instructions[-1] == ("CMD", '["python", "app.py"]')
    (version,) = {re.match(r"python:(\d\.\d+)\.\d+-slim", rest)[1] for name, rest in instructions if name == "FROM"}  # type: ignore[index]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert version in project["requires-python"]
    assert (
        version
        == tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["mypy"]["python_version"]
    )


def test_copied_files_exist_and_are_not_ignored() -> None:
    allowed = [
        line.removeprefix("!") for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if "!" in line
    ]
    copies = [
        rest.split()[:-1] for name, rest in _read_instructions() if name == "COPY" and not rest.startswith("--from")
    ]
    sources = [source for copy in copies for source in copy]
    assert sources
    for source in sources:
        assert (ROOT / source).exists(), source
        assert any(fnmatch.fnmatch(source, pattern) for pattern in allowed), f"{source} is ignored"
    assert set(sources) == set(allowed), "the build context must contain nothing else"


def test_every_variable_is_a_setting() -> None:
    used_settings = {name for name in _read_variables() if name.startswith(("PHI3_UI_", "GRADIO_", "MLFLOW_"))}
    used_settings |= set(SERVICES["app-1"]["environment"])
    assert used_settings <= SETTINGS
    Settings.read({name: value for name, value in _read_variables().items() if name in SETTINGS})
    files = {name: value for name, value in SERVICES["app-1"]["environment"].items() if name.endswith("_FILE")}
    assert {Path(value) for value in files.values()} == {
        Path("/run/secrets", name) for name in SERVICES["app-1"]["secrets"]
    }
    variables = {**SERVICES["app-1"]["environment"], "PHI3_UI_HOSTS": "chat.example", **dict.fromkeys(files, "")}
    settings = Settings.read(variables)
    assert settings.root_path == "/llm"
    assert list(settings.trusted_proxies) == [SERVICES["proxy"]["networks"]["front"]["ipv4_address"] + "/32"]


def test_the_compose_file_is_valid() -> None:
    schema = json.loads((ROOT / "tests" / "support" / "compose-spec.json").read_text(encoding="utf-8"))
    jsonschema.Draft7Validator(schema).validate(COMPOSE)
    for name, service in SERVICES.items():
        assert set(service.get("depends_on", ())) <= SERVICES.keys(), name
        assert set(service["networks"]) <= COMPOSE["networks"].keys(), name
        assert set(service.get("secrets", ())) <= COMPOSE["secrets"].keys(), name
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            is_file = source.startswith("./")
            assert source in COMPOSE["volumes"] or (is_file and source in ("./nginx.conf", "./tls")), volume
        assert "build" in service or re.search(r":[^:]*\d", service["image"]) or service["image"] == "phi3-chat", name


def test_every_service_is_confined() -> None:
    for name, service in SERVICES.items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert name == "proxy" or "ports" not in service, f"{name} is reachable from outside"
    assert COMPOSE["networks"]["back"]["internal"]
    for name in ("postgres", "objects", "mlflow", "bucket"):
        assert list(SERVICES[name]["networks"]) == ["back"]


def test_the_proxies_use_the_names_of_the_app_services() -> None:
    servers = re.findall(r"server ([\w-]+):7860", (DEPLOY / "nginx.conf").read_text(encoding="utf-8"))
    caddy = re.search(r"reverse_proxy (.+) \{", (DEPLOY / "Caddyfile").read_text(encoding="utf-8"))
    assert caddy
    assert servers == [name for name in SERVICES if name.startswith("app-")]
    assert caddy[1].split() == [f"{name}:7860" for name in servers]
    assert _read_variables()["GRADIO_SERVER_PORT"] == "7860"
    homes = [SERVICES[name]["volumes"] for name in servers]
    assert homes == [["app-1:/data"], ["app-2:/data"]], "each server needs its own home"


def test_the_mlflow_server_supports_its_options_and_variables() -> None:
    from mlflow.cli import cli as mlflow_cli

    script = SERVICES["mlflow"]["command"][-1]
    (line,) = re.findall(r"exec mlflow (.+)", script)
    command, *arguments = line.split()
    assert mlflow_cli.commands[command].make_context(command, arguments, resilient_parsing=True)
    supported = {option for parameter in mlflow_cli.commands[command].params for option in parameter.opts}
    assert {argument for argument in arguments if argument.startswith("--")} <= supported
    environment = SERVICES["mlflow"]["environment"]
    assert SERVICES["app-1"]["environment"]["MLFLOW_TRACKING_URI"].removeprefix("http://") in environment["MLFLOW_SERVER_ALLOWED_HOSTS"].split(",")  # fmt: skip
    declared = {parameter.envvar for parameter in mlflow_cli.commands[command].params}
    assert {"MLFLOW_BACKEND_STORE_URI", "MLFLOW_SERVER_ALLOWED_HOSTS"} <= declared


@pytest.mark.parametrize("name", ["bucket", "mlflow", "image"])
def test_the_python_code_in_commands_compiles(name: str) -> None:
    command = health_check() if name == "image" else SERVICES[name].get("healthcheck", SERVICES[name]).get("test", SERVICES[name]["command"])  # fmt: skip
    compile(command[-1], name, "exec")


def test_the_drivers_of_the_servers_match_the_tested_versions() -> None:
    pins = read_pins()
    for requirement in read_requirements(DEPLOY / "server-requirements.txt"):
        if pin := pins.get(canonicalize_name(requirement.name)):
            assert requirement.specifier == pin.specifier, requirement
