"""The wrapper's code as copied for an artifact."""

from pathlib import Path

import pytest

from models import wrapper_code
from models.wrapper_code import ENGINE, WRAPPER, copied_code


def test_the_copy_of_read_only_code_is_writable_and_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package, program = tmp_path / ENGINE.name, tmp_path / WRAPPER.name
    (package / "__pycache__").mkdir(parents=True)
    for file in (program, package / "slots.py"):
        file.write_text(file.name)
        file.chmod(0o444)
    package.chmod(0o555)
    monkeypatch.setattr(wrapper_code, "ENGINE", package)
    monkeypatch.setattr(wrapper_code, "WRAPPER", program)

    with copied_code() as (wrapper, engine):
        assert (wrapper.name, wrapper.read_text()) == (WRAPPER.name, WRAPPER.name)
        assert {file.name: file.read_text() for file in engine.iterdir()} == {"slots.py": "slots.py"}
        assert engine == wrapper.parent / ENGINE.name
        assert all(path.stat().st_mode & 0o200 for path in (wrapper, engine, *engine.iterdir()))
    assert not wrapper.parent.exists()
    package.chmod(0o755)
