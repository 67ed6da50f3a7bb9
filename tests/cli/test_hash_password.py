"""`hash-password` prints what PHI3_UI_LOGINS takes."""

from click.testing import CliRunner

from phi3_ui.accounts.passwords import Passwords
from phi3_ui.cli.hash_password import hash_password
from phi3_ui.settings import Settings


def test_the_hash_opens_the_account() -> None:
    shown = CliRunner().invoke(hash_password, ["anna"], input="correct horse\n")

    assert shown.exit_code == 0
    logins = dict(Settings.read({"PHI3_UI_LOGINS": shown.stdout.strip()}).logins)
    assert list(logins) == ["anna"]
    assert Passwords(logins).is_correct("anna", "correct horse")


def test_a_short_password_is_refused() -> None:
    shown = CliRunner().invoke(hash_password, ["anna"], input="short\n")

    assert shown.exit_code == 2
    assert "8 characters" in shown.output
