"""Settings read from environment variables."""

from pathlib import Path

import pytest
from pydantic import ValidationError
from sqlalchemy import make_url

from phi3_ui.errors import UserError
from phi3_ui.paths import ROOT
from phi3_ui.settings import Settings


def test_defaults_suit_a_single_local_user() -> None:
    settings = Settings.read({})

    assert settings == Settings(
        home=ROOT / "data",
        tracking_uri=f"sqlite:///{ROOT / 'data' / 'mlflow.db'}",
        preset="demo",
        device="cpu",
        manage=True,
        server_name="127.0.0.1",
        server_port=None,
        open_browser=True,
        max_loaded_models=2,
        idle_seconds=900,
        max_answers=32,
        answer_seconds=600,
        grace_seconds=30,
        cache_mb=0,
        mlflow_url="http://127.0.0.1:5001",
    )
    assert settings.logs == ROOT / "data" / "logs"
    assert settings.artifacts == (ROOT / "data" / "artifacts").as_uri()
    assert not settings.preset_is_explicit


def test_every_variable_is_read(tmp_path: Path) -> None:
    settings = Settings.read(
        {
            "PHI3_UI_HOME": str(tmp_path),
            "MLFLOW_TRACKING_URI": "http://127.0.0.1:5000",
            "PHI3_UI_PRESET": "phi-3-mini-4k",
            "PHI3_UI_DEVICE": "cuda",
            "PHI3_UI_MANAGE": "1",
            "GRADIO_SERVER_NAME": "0.0.0.0",
            "GRADIO_SERVER_PORT": "7861",
            "PHI3_UI_OPEN_BROWSER": "0",
            "PHI3_UI_MAX_LOADED_MODELS": "5",
            "PHI3_UI_IDLE_SECONDS": "60",
            "PHI3_UI_MAX_ANSWERS": "4",
            "PHI3_UI_ANSWER_SECONDS": "30",
            "PHI3_UI_GRACE_SECONDS": "5",
            "PHI3_UI_CACHE_MB": "500",
            "PHI3_UI_MODEL_FOLDERS": "/srv/index, /srv/cache",
            "PHI3_UI_MODEL_VARIABLES": "OPENAI_API_KEY",
            "PHI3_UI_MLFLOW_URL": "https://mlflow.example/ui/",
        }
    )

    assert settings == Settings(
        home=tmp_path,
        tracking_uri="http://127.0.0.1:5000",
        preset="phi-3-mini-4k",
        device="cuda",
        manage=True,
        server_name="0.0.0.0",
        server_port=7861,
        open_browser=False,
        max_loaded_models=5,
        idle_seconds=60,
        max_answers=4,
        answer_seconds=30,
        grace_seconds=5,
        cache_mb=500,
        model_folders=("/srv/index", "/srv/cache"),
        model_variables=("OPENAI_API_KEY",),
        mlflow_url="https://mlflow.example/ui",
    )
    assert settings.artifacts is None
    assert settings.preset_is_explicit
    with pytest.raises(ValidationError, match="frozen"):
        settings.preset = "demo"


@pytest.mark.parametrize(
    ("variables", "manage"),
    [
        ({"GRADIO_SERVER_NAME": "0.0.0.0"}, False),
        ({"SPACE_ID": "someone/space"}, False),
        ({"GRADIO_SERVER_NAME": "localhost"}, True),
        ({"GRADIO_SERVER_NAME": "0.0.0.0", "PHI3_UI_MANAGE": "1"}, True),
        ({"PHI3_UI_MANAGE": "0"}, False),
    ],
)
def test_management_is_on_by_default_only_on_a_local_page(variables: dict[str, str], manage: bool) -> None:
    assert Settings.read(variables).manage == manage


def test_an_unknown_device_is_refused() -> None:
    with pytest.raises(UserError, match=r"PHI3_UI_DEVICE cannot be tpu\. Set it to cpu / cuda / directml"):
        Settings.read({"PHI3_UI_DEVICE": "tpu"})


@pytest.mark.parametrize("name", ["PHI3_UI_MANAGE", "PHI3_UI_OPEN_BROWSER"])
def test_a_switch_other_than_0_or_1_is_refused(name: str) -> None:
    with pytest.raises(UserError, match=f"{name} cannot be yes"):
        Settings.read({name: "yes"})


def test_empty_variables_count_as_unset() -> None:
    names = ["PHI3_UI_HOME", "MLFLOW_TRACKING_URI", "PHI3_UI_PRESET", "GRADIO_SERVER_NAME", "GRADIO_SERVER_PORT"]
    names += ["PHI3_UI_MAX_LOADED_MODELS", "PHI3_UI_IDLE_SECONDS", "PHI3_UI_DEVICE", "PHI3_UI_MANAGE"]
    names += ["PHI3_UI_OPEN_BROWSER", "PHI3_UI_MLFLOW_URL"]

    assert Settings.read(dict.fromkeys(names, "")) == Settings.read({})


def test_the_default_store_and_its_artifacts_are_in_the_home(tmp_path: Path) -> None:
    home = tmp_path / "my models"
    own = Settings.read({"PHI3_UI_HOME": str(home)})

    assert own.tracking_uri == f"sqlite:///{home}/mlflow.db"
    assert own.artifacts == f"{tmp_path.as_uri()}/my%20models/artifacts"
    assert Settings.read({"PHI3_UI_HOME": str(home), "MLFLOW_TRACKING_URI": own.tracking_uri}) == own


def test_the_home_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    settings = Settings.read({"PHI3_UI_HOME": "here/../there"})

    assert settings.home == tmp_path / "there"
    assert not settings.home.exists(), "reading settings creates nothing"


def test_no_browser_opens_on_a_space() -> None:
    assert not Settings.read({"SPACE_ID": "me/phi", "PHI3_UI_OPEN_BROWSER": "1"}).open_browser


@pytest.mark.parametrize("name", ["GRADIO_SERVER_PORT", "PHI3_UI_MAX_LOADED_MODELS", "PHI3_UI_IDLE_SECONDS"])
@pytest.mark.parametrize("value", ["many", "0", "-1", "0.5", "nan"])
def test_a_value_that_is_not_a_positive_integer_is_refused(name: str, value: str) -> None:
    with pytest.raises(UserError, match=f"{name} cannot be {value}. Set it to 1 (or more|to 65535)"):
        Settings.read({name: value})


def test_the_process_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHI3_UI_PRESET", "phi-4-mini")

    assert Settings.read().preset == "phi-4-mini"


def test_a_port_out_of_range_is_refused() -> None:
    with pytest.raises(UserError, match="GRADIO_SERVER_PORT cannot be 99999"):
        Settings.read({"GRADIO_SERVER_PORT": "99999"})


_HASH = "$argon2id$v=19$m=65536,t=3,p=4$c29tZXNhbHQ$aGFzaA"


def test_logins_are_read_from_the_variable_and_the_file(tmp_path: Path) -> None:
    file = tmp_path / "logins"
    file.write_text(f"carol:{_HASH}\n\n dan:{_HASH}\n")
    env = {"PHI3_UI_LOGINS": f"anna:{_HASH}, bob@example.org:{_HASH},\n"}

    assert Settings.read(env).logins == (("anna", _HASH), ("bob@example.org", _HASH))
    combined = Settings.read({**env, "PHI3_UI_LOGINS_FILE": str(file)}).logins
    assert [name for name, _ in combined] == ["anna", "bob@example.org", "carol", "dan"]
    assert Settings.read({"PHI3_UI_LOGINS_FILE": str(file)}).logins == (("carol", _HASH), ("dan", _HASH))
    assert Settings.read({}).logins == ()


def test_trusted_proxies_are_networks() -> None:
    assert Settings.read({"PHI3_UI_TRUSTED_PROXIES": "10.0.0.0/8, 192.0.2.7"}).trusted_proxies == (
        "10.0.0.0/8",
        "192.0.2.7/32",
    )
    assert Settings.read({}).trusted_proxies == ("127.0.0.0/8", "::1")
    assert "10.0.0.0/8" in Settings.read({"SPACE_ID": "a/b"}).trusted_proxies
    for value in ("*", "proxy.example", "10.0.0.0/99"):
        with pytest.raises(UserError, match="PHI3_UI_TRUSTED_PROXIES cannot be"):
            Settings.read({"PHI3_UI_TRUSTED_PROXIES": value})


def test_an_unreadable_logins_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="PHI3_UI_LOGINS_FILE cannot be"):
        Settings.read({"PHI3_UI_LOGINS_FILE": str(tmp_path / "missing")})


@pytest.mark.parametrize("plain", ["secret", "$argon2id$", "pbkdf2:x", "a:b"])
def test_a_plain_password_is_refused_with_a_remedy_and_not_shown(plain: str) -> None:
    with pytest.raises(UserError) as refused:
        Settings.read({"PHI3_UI_LOGINS": f"anna:{plain}"})

    assert "hash-password anna" in str(refused.value)
    assert plain not in str(refused.value)


@pytest.mark.parametrize("value", ["anna", "anna:", ":x", "a b:x", f"a:{_HASH},a:{_HASH}", "o'hara:x"])
def test_an_invalid_login_is_refused_without_showing_its_password(value: str) -> None:
    with pytest.raises(UserError) as refused:
        Settings.read({"PHI3_UI_LOGINS": value})

    assert refused.value.code == "bad_setting"
    assert "PHI3_UI_LOGINS" in str(refused.value)


@pytest.mark.parametrize(
    ("variables", "url"),
    [
        ({"MLFLOW_TRACKING_URI": "http://mlflow.example:5000/"}, "http://mlflow.example:5000"),
        ({"MLFLOW_TRACKING_URI": "https://me:secret@mlflow.example"}, "https://mlflow.example"),
        ({"MLFLOW_TRACKING_URI": "http://[::1]:5000"}, "http://[::1]:5000"),
        ({"MLFLOW_TRACKING_URI": "http://a", "PHI3_UI_MLFLOW_URL": "http://b:80"}, "http://b:80"),
        ({"MLFLOW_TRACKING_URI": "postgresql://db/mlflow"}, "http://127.0.0.1:5001"),
        ({"MLFLOW_TRACKING_URI": "databricks"}, None),
        ({"GRADIO_SERVER_NAME": "0.0.0.0"}, None),
        ({"SPACE_ID": "someone/space"}, None),
        ({"SPACE_ID": "someone/space", "PHI3_UI_MLFLOW_URL": "https://mlflow.example"}, "https://mlflow.example"),
    ],
)
def test_the_mlflow_url_is_one_that_visitors_can_open(variables: dict[str, str], url: str | None) -> None:
    assert Settings.read(variables).mlflow_url == url


@pytest.mark.parametrize(
    "value", ["5001", "localhost:5001", "javascript:alert(1)", "http://", "http://a:b", "http://a/?b"]
)
def test_an_invalid_mlflow_url_is_refused(value: str) -> None:
    with pytest.raises(UserError, match="PHI3_UI_MLFLOW_URL cannot be"):
        Settings.read({"PHI3_UI_MLFLOW_URL": value})


@pytest.mark.parametrize("folder", ["a b", "a#b", "50%", "é 日本", "a&b=c"])
def test_the_path_of_the_home_may_contain_unusual_characters(tmp_path: Path, folder: str) -> None:
    settings = Settings.read({"PHI3_UI_HOME": str(tmp_path / folder)})
    assert make_url(settings.tracking_uri).database == str(tmp_path / folder / "mlflow.db")


@pytest.mark.parametrize(
    ("name", "value", "character"),
    [
        ("PHI3_UI_HOME", "/why?/home", r"\?"),
        ("PHI3_UI_HOME", "/a%20b", "%20"),
        ("MLFLOW_TRACKING_URI", "sqlite:////why?/home/mlflow.db", r"\?"),
        ("MLFLOW_TRACKING_URI", "sqlite:////home/why?.db", r"\?"),
        ("MLFLOW_TRACKING_URI", "sqlite:////home/why?", r"\?"),
        ("MLFLOW_TRACKING_URI", "sqlite:////a%23b/mlflow.db", "%23"),
    ],
)
def test_a_path_that_a_store_uri_cannot_represent_is_rejected(name: str, value: str, character: str) -> None:
    with pytest.raises(UserError, match=f"{name}.*{character}"):
        Settings.read({name: value})


@pytest.mark.parametrize(
    "uri", ["sqlite://", "sqlite:///m.db?timeout=30&mode=ro", "azureml://host/store", "databricks"]
)
def test_other_store_uris_are_unchanged(uri: str) -> None:
    assert Settings.read({"MLFLOW_TRACKING_URI": uri}).tracking_uri == uri


def test_a_folder_or_a_file_that_is_not_a_database_is_rejected_as_a_store(tmp_path: Path) -> None:
    for uri in (str(tmp_path), tmp_path.as_uri(), "./mlruns", "C:\\mlruns"):
        with pytest.raises(UserError, match=r"is the folder .*migrate-filestore"):
            Settings.read({"MLFLOW_TRACKING_URI": uri})

    text, empty = tmp_path / "notes.db", tmp_path / "empty.db"
    text.write_text("no database")
    empty.touch()
    for file in (text, tmp_path):
        with pytest.raises(UserError, match=f"{file} is not a SQLite database"):
            Settings.read({"MLFLOW_TRACKING_URI": f"sqlite:///{file}"})
    assert Settings.read({"MLFLOW_TRACKING_URI": f"sqlite:///{empty}"})


@pytest.mark.parametrize(
    ("variables", "is_single_user"),
    [
        ({}, True),
        ({"PHI3_UI_MANAGE": "0"}, False),
        ({"GRADIO_SERVER_NAME": "0.0.0.0", "PHI3_UI_MANAGE": "1"}, False),
        ({"SPACE_ID": "a/b", "PHI3_UI_MANAGE": "1"}, False),
    ],
)
def test_single_user_mode_requires_a_local_page_with_management(
    variables: dict[str, str], is_single_user: bool
) -> None:
    assert Settings.read(variables).is_single_user == is_single_user


def test_trusted_models_are_fingerprints() -> None:
    one, two = "a1" * 32, "b2" * 32
    assert Settings.read({"PHI3_UI_TRUSTED_MODELS": f"{one}, {two}"}).trusted_models == (one, two)
    for invalid in (one[:-1], one.upper(), f"{one};{two}", "*"):
        with pytest.raises(UserError, match="PHI3_UI_TRUSTED_MODELS cannot be"):
            Settings.read({"PHI3_UI_TRUSTED_MODELS": invalid})


def test_signing_in_with_hugging_face_requires_a_client_id_and_secret() -> None:
    oauth = {"OAUTH_CLIENT_ID": "id", "OAUTH_CLIENT_SECRET": "hidden"}
    settings = Settings.read(oauth)
    assert settings.has_login
    assert not settings.is_single_user
    assert settings.openid_provider_url == "https://huggingface.co"
    assert "hidden" not in repr(settings)
    assert not Settings.read({}).has_login
    for name in oauth:
        with pytest.raises(UserError, match="OAUTH_CLIENT_SECRET cannot be …"):
            Settings.read({name: oauth[name]})


@pytest.mark.parametrize("url", ["http://huggingface.co", "huggingface.co", "file:///x", "https://x?y"])
def test_a_provider_url_must_use_https_unless_local(url: str) -> None:
    with pytest.raises(UserError, match="OPENID_PROVIDER_URL"):
        Settings.read({"OPENID_PROVIDER_URL": url})
    assert Settings.read({"OPENID_PROVIDER_URL": "http://127.0.0.1:5/"}).openid_provider_url == "http://127.0.0.1:5"
