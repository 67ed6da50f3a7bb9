"""The wrapper's code on its way into an artifact."""

from pathlib import Path

import pytest

from models import wrapper_code
from models.wrapper_code import ENGINE, copied_engine


def test_the_copy_of_a_read_only_package_is_writable_and_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / ENGINE.name
    (package / "__pycache__").mkdir(parents=True)
    (package / "slots.py").write_text("x = 1\n")
    (package / "slots.py").chmod(0o444)
    package.chmod(0o555)
    monkeypatch.setattr(wrapper_code, "ENGINE", package)

    with copied_engine() as copy:
        assert {file.name: file.read_text() for file in copy.iterdir()} == {"slots.py": "x = 1\n"}
        assert copy.name == ENGINE.name
        assert all(path.stat().st_mode & 0o200 for path in (copy, *copy.iterdir()))
    assert not copy.exists()
    package.chmod(0o755)
