"""A store that survives the loss of the disk, in a bucket that SQLite never accesses directly."""

import logging
import os
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from phi3_ui import server
from phi3_ui.errors import UserError
from phi3_ui.provision.first_run import FirstRun
from phi3_ui.settings import Settings
from phi3_ui.store import bucket as bucket_module
from phi3_ui.store.bucket import BucketCopy
from tests.support.asgi_client import run_app
from tests.support.build_cache import create_store


def _write(database: Path, text: str) -> None:
    database.parent.mkdir(exist_ok=True)
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("CREATE TABLE IF NOT EXISTS said (text)")
        connection.execute("INSERT INTO said VALUES (?)", [text])


def _read(database: Path) -> list[str]:
    with closing(sqlite3.connect(database)) as connection:
        return [text for (text,) in connection.execute("SELECT text FROM said")]


def test_copied_data_survives_the_loss_of_the_disk(tmp_path: Path) -> None:
    database, bucket = tmp_path / "home" / "mlflow.db", tmp_path / "bucket"
    copy = BucketCopy(database, bucket)
    copy.restore()
    assert not database.exists()
    copy.save()
    assert list(bucket.iterdir()) == [], "there is nothing yet"
    copy.start()
    _write(database, "one")
    copy.save()
    _write(database, "two")
    copy.stop()

    database.unlink()
    BucketCopy(database, bucket).restore()
    assert _read(database) == ["one", "two"]
    assert [file.name for file in bucket.iterdir()] == ["mlflow.db"]


def test_only_changes_are_copied_while_the_app_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bucket_module, "_INTERVAL", 0.01)
    database, bucket = tmp_path / "home" / "mlflow.db", tmp_path / "bucket"
    copied = threading.Event()
    replace, copies = os.replace, list[str]()

    def record_copy(source: Path, target: Path) -> None:
        replace(source, target)
        copies.append(target.name)
        copied.set()

    monkeypatch.setattr(os, "replace", record_copy)
    copy = BucketCopy(database, bucket)
    copy.restore()
    copy.start()
    _write(database, "one")
    assert copied.wait(60)
    copy.stop()
    count = len(copies)
    copy.save()
    assert len(copies) == count


def test_an_existing_database_is_not_replaced(tmp_path: Path) -> None:
    database, bucket = tmp_path / "home" / "mlflow.db", tmp_path / "bucket"
    _write(bucket / "mlflow.db", "old")
    _write(database, "new")
    BucketCopy(database, bucket).restore()
    assert _read(database) == ["new"]


@pytest.mark.parametrize("content", [b"SQLite format 3\0" + b"x" * 5000, b"no database"])
def test_a_damaged_copy_is_named_and_kept(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "mlflow.db").write_bytes(content)
    with pytest.raises(UserError, match=r"mlflow\.db is damaged"):
        BucketCopy(tmp_path / "home" / "mlflow.db", tmp_path).restore()
    assert not (tmp_path / "home" / "mlflow.db").exists()
    assert (tmp_path / "mlflow.db").read_bytes() == content


def test_an_unwritable_bucket_is_reported_and_retried(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    database, bucket = tmp_path / "home" / "mlflow.db", tmp_path / "bucket"
    bucket.write_text("a file, no folder")
    with pytest.raises(UserError, match="cannot be used"):
        BucketCopy(database, bucket).restore()
    bucket.unlink()
    copy = BucketCopy(database, bucket)
    _write(database, "one")
    with caplog.at_level(logging.ERROR):
        copy.save()  # the folder does not exist
    assert "Cannot copy" in caplog.text
    bucket.mkdir()
    copy.save()
    assert _read(bucket / "mlflow.db") == ["one"]


@pytest.mark.server
def test_the_app_restores_its_store_and_copies_it_at_exit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FirstRun, "start", lambda self: None)
    home, bucket = tmp_path / "home", tmp_path / "bucket"
    create_store(bucket)
    settings = Settings.read({"PHI3_UI_HOME": str(home), "PHI3_UI_BUCKET": str(bucket)})
    assert settings.artifacts == (bucket / "artifacts").as_uri()
    with run_app(server.create_app, settings):
        _write(home / "mlflow.db", "during the day")
    assert _read(bucket / "mlflow.db") == ["during the day"]
