"""The server's folders are removed from texts that visitors read."""

import time
from string import Formatter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phi3_ui.errors import SENTENCES, UserError
from phi3_ui.i18n.hide_paths import hide_paths
from phi3_ui.paths import ROOT
from phi3_ui.ui.sessions import Session

_HOME = "/srv/secret/data"
# Values that are not texts of the server.
_OTHERS: dict[str, str | int] = {"count": 2, "seconds": 2, "tokens": 2, "repo": "owner/name"}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("See /srv/secret/logs/m.log for details; x", "See …/m.log for details; x"),
        ("store sqlite:////srv/secret/mlflow.db is", "store sqlite:///…/mlflow.db is"),
        ("sqlite:///C:\\Users\\secret\\m.db", "sqlite:///…/m.db"),
        ("[Errno 2] No such file: '/srv/secret x/y z.txt'", "[Errno 2] No such file: '…/y z.txt'"),
        ("C:\\Users\\secret\\x.log, line 1", "…/x.log, line 1"),
        ('File "/usr/secret/site-packages/a.py", line 2', 'File "…/a.py", line 2'),
        ("(/srv/secret/a)", "(…/a)"),
        ("path=/srv/secret/a.py:12", "path=…/a.py:12"),
        ("https://huggingface.co/a/b, http://127.0.0.1:5000/x", "https://huggingface.co/a/b, http://127.0.0.1:5000/x"),
        ("1/2 and/or 3 / 4 of owner/name, models:/name/1", "1/2 and/or 3 / 4 of owner/name, models:/name/1"),
    ],
)
def test_paths_are_shortened_to_their_names(text: str, shown: str) -> None:
    assert hide_paths(text) == shown
    assert hide_paths(shown) == shown


@pytest.mark.parametrize(
    "text", ["'/" + "x" * 200_000, "'/" + "x/" * 100_000, "“/x/" * 50_000, "'C:\\" * 50_000, ",/a" * 50_000]
)
def test_a_text_of_any_length_takes_little_time(text: str) -> None:
    """An imported chat may contain such an error."""
    started = time.process_time()
    hide_paths(text)
    assert time.process_time() - started < 5


@pytest.mark.parametrize("language", ["en", "ro"])
def test_no_error_shows_a_folder_to_visitors(language: str) -> None:
    for code, text in SENTENCES.items():
        names = {name for _, name, _, _ in Formatter().parse(text) if name}
        error = UserError(code, **{name: _OTHERS.get(name, f"{_HOME}/x") for name in names})

        assert "secret" not in Session(language).explain(error), code
        assert ("secret" in Session(language, hides_paths=False).explain(error)) == bool(names - _OTHERS.keys()), code


@given(st.text(), st.sampled_from(" '\"(=,;\n“"), st.text(st.characters(exclude_characters="/\\")))
def test_no_text_around_a_path_keeps_its_folder(before: str, last: str, after: str) -> None:
    assert "/srv/secret" not in hide_paths(f"{before}{last}{_HOME}{after}")


def test_handlers_explain_errors_through_the_session() -> None:
    handlers = list((ROOT / "phi3_ui" / "ui" / "handlers").glob("*.py"))
    assert len(handlers) > 5
    assert [file.name for file in handlers if "tr_error" in file.read_text(encoding="utf-8")] == []
