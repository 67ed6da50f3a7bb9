"""API keys: finding their owners, and limits for invalid ones."""

from pathlib import Path

import pytest
from argon2 import PasswordHasher

from phi3_ui.accounts.api_keys import ApiKeys, TooManyAttemptsError, create_key
from phi3_ui.errors import UserError
from phi3_ui.settings import Settings
from tests.support.logins import hash_logins


def open_keys(**secrets: str) -> ApiKeys:
    return ApiKeys(Settings.read({"PHI3_UI_API_KEYS": hash_logins(**secrets)}).api_keys)


def test_a_key_names_its_owner_and_opens_no_other_account() -> None:
    (annas, secret), (bobs, other) = create_key("anna"), create_key("bob")
    keys = open_keys(anna=secret, bob=other)

    assert keys.find_owner(annas, "1.2.3.4") == "anna"
    assert keys.find_owner(bobs, "1.2.3.4") == "bob"
    for number, wrong in enumerate([f"bob.{secret}", f"anna.{other}", secret, "anna.", "", ".", "carol.x", "é.é"]):
        assert keys.find_owner(wrong, f"address {number}") is None


def test_a_key_is_hashed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    key, secret = create_key("anna")
    keys = open_keys(anna=secret)
    assert keys.find_owner(key, "1.2.3.4") == "anna"

    monkeypatch.setattr(PasswordHasher, "verify", None)
    assert keys.find_owner(key, "1.2.3.4") == "anna"


def test_wrong_keys_are_counted_and_hold_up_no_right_one() -> None:
    key, secret = create_key("anna")
    keys = open_keys(anna=secret)
    assert keys.find_owner(key, "1.2.3.4") == "anna"
    with pytest.raises(TooManyAttemptsError) as refused:
        _guess(keys, 30)

    assert refused.value.seconds > 0
    assert keys.find_owner(key, "1.2.3.4") == "anna"


def test_a_person_may_have_several_keys(tmp_path: Path) -> None:
    (old, old_secret), (new, new_secret), (bobs, other) = create_key("anna"), create_key("anna"), create_key("bob")
    file = tmp_path / "keys"
    lines = [hash_logins(anna=old_secret), hash_logins(anna=new_secret), hash_logins(bob=other)]
    file.write_text("\n".join(lines), encoding="utf-8")
    keys = ApiKeys(Settings.read({"PHI3_UI_API_KEYS_FILE": str(file)}).api_keys)

    assert [keys.find_owner(key, "1.2.3.4") for key in (new, old, bobs)] == ["anna", "anna", "bob"]
    assert keys.find_owner(f"bob.{new_secret}", "1.2.3.4") is None


def test_a_key_itself_is_no_setting() -> None:
    key, secret = create_key("anna")
    for text in (key, f"anna:{secret}"):
        with pytest.raises(UserError) as refused:
            Settings.read({"PHI3_UI_API_KEYS": text})
        assert refused.value.code in ("plain_api_key", "bad_setting")
        assert secret not in str(refused.value)


def _guess(keys: ApiKeys, times: int) -> None:
    for _ in range(times):
        keys.find_owner("anna.wrong", "1.2.3.4")
