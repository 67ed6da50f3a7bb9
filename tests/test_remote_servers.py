"""Settings for remote servers."""

from pathlib import Path

import pytest

from phi3_ui.errors import UserError
from phi3_ui.settings import Settings

LAB = '[lab]\nurl = "https://lab.example/v1/"\nkey = "sk-secret"\n'


def read(text: str, **variables: str) -> Settings:
    return Settings.read({"PHI3_UI_REMOTE_SERVERS": text, **variables})


def test_servers_are_read_from_the_variable_and_the_file(tmp_path: Path) -> None:
    file = tmp_path / "servers.toml"
    file.write_text('[azure]\nurl = "https://a.example"\nkind = "azure"\nmodels = ["d"]\n', encoding="utf-8")
    settings = read('lab = {url = "https://lab.example/v1/", key = "sk-secret"}', PHI3_UI_REMOTE_SERVERS_FILE=str(file))

    lab, azure = settings.remote_servers
    assert (lab.url, lab.host, lab.kind, lab.read_key()) == (
        "https://lab.example/v1",
        "lab.example",
        "openai",
        "sk-secret",
    )
    assert (azure.name, azure.models) == ("azure", ("d",))
    assert "sk-secret" not in repr(settings) + str(lab) + settings.model_dump_json()
    assert Settings.read({}).remote_servers == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lab", "TOML"),
        ("lab = 1", "tables"),
        ('[lab]\nkey = "sk-secret"', "url"),
        (LAB + "port = 1", "port"),
        (LAB + 'kind = "other"', "kind"),
        (LAB + "models = [1]", "models"),
        (LAB + 'params = ["top_k"]', "top_k"),
        (LAB + "context_length = 0", "context_length"),
        (LAB.replace("lab]", '"a/b"]'), "name"),
        (LAB.replace("https:", "ftp:"), "http://"),
        (LAB.replace("lab.example", "user:sk-secret@lab.example"), "without a user"),
        (LAB.replace("v1/", "v1?key=sk-secret"), "query"),
        (LAB.replace("sk-secret", "sk-secret\\n"), "Set it to"),
        (LAB.replace("sk-secret", "sk secret"), "header"),
        (LAB + 'kind = "azure"', "deployments"),
        (LAB + "\n[lab.x]", "x"),
    ],
)
def test_an_error_names_the_invalid_value_but_not_the_key(text: str, message: str) -> None:
    if message == "Set it to":  # white space around a key is stripped
        assert read(text).remote_servers[0].read_key() == "sk-secret"
        return
    with pytest.raises(UserError) as caught:
        read(text)

    assert message in str(caught.value)
    assert "secret" not in str(caught.value)


def test_duplicate_names_and_missing_files_are_rejected(tmp_path: Path) -> None:
    file = tmp_path / "servers.toml"
    with pytest.raises(UserError, match=r"servers\.toml"):
        Settings.read({"PHI3_UI_REMOTE_SERVERS_FILE": str(file)})
    file.write_text(LAB, encoding="utf-8")
    with pytest.raises(UserError, match="one table per name"):
        read(LAB, PHI3_UI_REMOTE_SERVERS_FILE=str(file))
