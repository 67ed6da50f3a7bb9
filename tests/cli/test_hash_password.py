"""Tests that the settings accept the output of `hash-password` and `create-api-key`."""

from click.testing import CliRunner

from phi3_ui.accounts.api_keys import ApiKeys
from phi3_ui.accounts.passwords import Passwords
from phi3_ui.cli.hash_password import create_api_key, hash_password
from phi3_ui.errors import UserError
from phi3_ui.settings import Settings


def test_the_printed_hash_is_accepted_as_a_login() -> None:
    result = CliRunner().invoke(hash_password, ["anna"], input="correct horse\n")

    assert result.exit_code == 0
    logins = dict(Settings.read({"PHI3_UI_LOGINS": result.stdout.strip()}).logins)
    assert list(logins) == ["anna"]
    assert Passwords(logins).is_correct("anna", "correct horse")


def test_a_short_password_is_refused() -> None:
    result = CliRunner().invoke(hash_password, ["anna"], input="short\n")

    assert result.exit_code == 2
    assert "8 characters" in result.output


def test_a_new_key_matches_its_printed_setting() -> None:
    result = CliRunner().invoke(create_api_key, ["anna"])

    assert result.exit_code == 0
    keys = ApiKeys(Settings.read({"PHI3_UI_API_KEYS": result.stdout.strip()}).api_keys)
    assert keys.find_owner(result.stderr.split()[-1], "1.2.3.4") == "anna"


def test_no_key_is_created_for_an_invalid_name() -> None:
    result = CliRunner().invoke(create_api_key, ["an:na"])

    assert isinstance(result.exception, UserError)
    assert result.stdout == ""
