"""Checking passwords against their hashes."""

import pytest
from argon2 import PasswordHasher

from phi3_ui.accounts.passwords import Passwords
from phi3_ui.settings import Settings
from tests.support.logins import hash_logins


@pytest.fixture
def passwords() -> Passwords:
    return Passwords(dict(Settings.read({"PHI3_UI_LOGINS": hash_logins(anna="one", bob="two")}).logins))


def test_a_password_opens_its_own_account_alone(passwords: Passwords) -> None:
    assert passwords.is_correct("anna", "one")
    assert not any(
        passwords.is_correct(*login) for login in (("anna", "two"), ("bob", "one"), ("carol", "one"), ("", ""))
    )


def test_an_unknown_name_takes_the_same_work(passwords: Passwords, monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[str] = []
    verify = PasswordHasher.verify

    def count(self: PasswordHasher, stored: str, password: str) -> bool:
        checked.append(stored.rpartition("$p=")[0] or stored.split("$")[3])
        return verify(self, stored, password)

    monkeypatch.setattr(PasswordHasher, "verify", count)
    assert not passwords.is_correct("nobody", "x")
    assert not passwords.is_correct("anna", "x")
    assert len(checked) == 2
    assert checked[0] == checked[1], "with the same parameters"


def test_a_damaged_hash_opens_nothing_and_is_named_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    logins = dict(Settings.read({"PHI3_UI_LOGINS": hash_logins(bob="two")}).logins)
    damaged = Passwords({**logins, "anna": "$argon2id$v=19$m=8,t=1,p=1$x$y"})

    assert not damaged.is_correct("anna", "one")
    assert "The password hash of anna is invalid" in caplog.text
    assert damaged.is_correct("bob", "two")
