"""Download a model's folder from the Hugging Face hub: only the files that it needs, each verified, all from one commit.

Files are collected in `<target>.part`, so a download that failed or was killed resumes where it stopped.
"""

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from models import prepare_program

if __name__ == "__main__":
    prepare_program()  # before the imports

from filelock import FileLock, Timeout
from huggingface_hub.utils import tqdm  # type: ignore[attr-defined]  # lazy

from models import hub_client
from models.hub_files import RECORD, Kind, RemoteFile, read_hub_record, select_files
from models.presets import HubFolder
from models.stage import Report, StageError, require_space, run_as_program

_REPORT_EVERY = 0.2  # seconds


def fetch(source: HubFolder, kind: Kind, target: Path, report: Report) -> Path:
    """Download the model of `source` to the folder `target`, with its commit in hub.json. Progress is in bytes of all files.

    No request is sent if `target` already has the commit that the revision pins. An earlier download is kept unchanged if the hub
    cannot be reached. Raises StageError: disk_full and the codes that begin with hub_.
    """
    source = replace(source, folder=source.folder.strip("/"))
    if _is_download_of(target, source) and read_hub_record(target)["commit"] == source.revision:
        return target
    with _exclusive(source, target):
        return _fetch(source, kind, target, report)


def _is_download_of(target: Path, source: HubFolder) -> bool:
    """Whether `target` was downloaded from `source`, at any commit."""
    record = read_hub_record(target)
    return (record.get("repo"), record.get("folder")) == (source.repo, source.folder)


@contextmanager
def _exclusive(source: HubFolder, target: Path) -> Iterator[None]:
    target.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(target.with_name(f"{target.name}.lock"))
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise StageError("hub_busy", repo=source.repo, folder=str(target)) from None
    try:
        yield
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def _fetch(source: HubFolder, kind: Kind, target: Path, report: Report) -> Path:
    is_downloaded = _is_download_of(target, source)
    if not is_downloaded and target.exists() and any(target.iterdir()):
        raise StageError("hub_folder_taken", folder=str(target))
    try:
        commit, files = hub_client.list_files(source)
    except StageError as error:
        unreachable = error.code in ("hub_offline", "hub_disabled")
        if is_downloaded and unreachable and read_hub_record(target)["revision"] == source.revision:
            return target
        raise
    if is_downloaded and read_hub_record(target)["commit"] == commit:
        return target
    chosen = select_files(source, kind, files)
    part = target.with_name(f"{target.name}.part")
    if is_downloaded and not part.exists():
        # Most files are unchanged in the next commit. Without hard links they are downloaded again.
        with suppress(OSError):
            shutil.copytree(target, part, copy_function=os.link)
    _download_missing(source, commit, chosen, part, report)
    record = {"repo": source.repo, "revision": source.revision, "folder": source.folder, "commit": commit}
    (part / RECORD).write_text(json.dumps(record, indent=1), encoding="utf-8")
    if target.exists():
        shutil.rmtree(target)
    os.replace(part, target)
    return target


def _download_missing(
    source: HubFolder, commit: str, chosen: Mapping[str, RemoteFile], part: Path, report: Report
) -> None:
    """Download the chosen files that are missing in `part`, and remove all others."""
    present = _remove_stale_files(part, chosen)
    total = sum(file.size for file in chosen.values())
    require_space(part, total - sum(present.values()))
    progress = _Progress(report, present, total)
    for name, file in chosen.items():
        path = part / name
        if path.exists():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = _get_partial_path(path, file)
        hub_client.download(source, commit, file, unfinished, partial(progress.update, name))
        if not file.is_at(unfinished):
            unfinished.unlink()
            raise StageError("hub_bad_hash", repo=source.repo, file=file.path)
        os.replace(unfinished, path)


def _get_partial_path(path: Path, file: RemoteFile) -> Path:
    """Return the path to download a file to, which depends on its content, so that different versions never mix."""
    return path.with_name(f"{path.name}.{file.version[:16]}.unfinished")


def _remove_stale_files(part: Path, chosen: Mapping[str, RemoteFile]) -> dict[str, int]:
    """Delete files from `part` that cannot be reused. Return the number of bytes present of each chosen file."""
    part.mkdir(parents=True, exist_ok=True)
    present: dict[str, int] = {}
    useful = set()
    for name, file in chosen.items():
        path = part / name
        unfinished = _get_partial_path(path, file)
        if file.is_at(path):
            useful.add(path)
            present[name] = file.size
        elif unfinished.is_file() and unfinished.stat().st_size <= file.size:
            useful.add(unfinished)
            present[name] = unfinished.stat().st_size
    for path in part.rglob("*"):
        if path.is_file() and path not in useful:
            path.unlink()
    return present


class _Progress:
    """Reports the bytes of all files, monotonically and a few times per second."""

    def __init__(self, report: Report, present: Mapping[str, int], total: int) -> None:
        self._report = report
        self._present = dict(present)
        self._total = total
        self._done = sum(self._present.values())
        self._reported_at = time.monotonic()
        report(self._done, total)

    def update(self, name: str, size: int) -> None:
        self._present[name] = size
        done = sum(self._present.values())
        now = time.monotonic()
        if done > self._done and (now - self._reported_at >= _REPORT_EVERY or done == self._total):
            self._done, self._reported_at = done, now
            self._report(done, self._total)


@contextmanager
def _with_progress_bar(report: Report, as_events: bool) -> Iterator[Report]:
    """Yield `report`, or one that shows a progress bar if standard error is a terminal."""
    if as_events or not sys.stderr.isatty():
        yield report
        return
    with tqdm(unit="B", unit_scale=True) as bar:  # type: ignore[no-untyped-call]  # has no type hints

        def show(done: int, total: int) -> None:
            if bar.total is None:
                bar.initial, bar.total = done, total
            bar.update(done - bar.n)

        yield show


def _work(arguments: argparse.Namespace, report: Report) -> dict[str, Any]:
    source = HubFolder(arguments.repo, arguments.revision, arguments.subfolder)
    with _with_progress_bar(report, arguments.events) as shown:
        path = fetch(source, arguments.kind, arguments.folder, shown)
    return {"path": str(path), "commit": read_hub_record(path)["commit"]}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Download a model's folder from the Hugging Face hub.")
    parser.add_argument("--repo", required=True, help="the repository, as owner/name")
    parser.add_argument("--revision", default="main", help="a branch, a tag or a commit")
    parser.add_argument("--subfolder", default="", help="the model's folder in the repository")
    parser.add_argument("--kind", choices=["checkpoint", "onnx"], required=True)
    parser.add_argument("--folder", type=Path, required=True, help="the folder to create")
    run_as_program(_work, parser)
