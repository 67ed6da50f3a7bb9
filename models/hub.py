"""A model's folder from the Hugging Face hub: only the files it needs, each checked, and the commit they are of.

What has come lies in `<target>.part` until all of it is there, so a fetch that broke, or was killed, goes on where it stopped.
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

from models import disable_telemetry

if __name__ == "__main__":
    disable_telemetry()  # before the imports that read its switches

from filelock import FileLock, Timeout
from huggingface_hub.utils import tqdm  # type: ignore[attr-defined]

from models import hub_client
from models.hub_files import RECORD, Kind, RemoteFile, needed, read_hub_record
from models.presets import HubFolder
from models.stage import Report, StageError, require_space, run_as_program

_REPORT_EVERY = 0.2  # seconds


def fetch(source: HubFolder, kind: Kind, target: Path, report: Report) -> Path:
    """The model of `source` as the folder `target`, with the commit in its hub.json; progress in bytes of all files.

    If `target` is already there at the commit that the revision pins, nothing is asked of the network; if it is there
    and the hub cannot be reached, it stays as it is.
    Raises StageError: the codes that begin with hub_, disk_full.
    """
    source = replace(source, folder=source.folder.strip("/"))
    if _holds(target, source) and read_hub_record(target)["commit"] == source.revision:
        return target
    with _exclusive(source, target):
        return _fetch(source, kind, target, report)


def _holds(target: Path, source: HubFolder) -> bool:
    """Was `target` fetched from there, at whatever commit?"""
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
    held = _holds(target, source)
    if not held and target.exists() and any(target.iterdir()):
        raise StageError("hub_folder_taken", folder=str(target))
    try:
        commit, files = hub_client.listing(source)
    except StageError as error:
        unreachable = error.code in ("hub_offline", "hub_disabled")
        if held and unreachable and read_hub_record(target)["revision"] == source.revision:
            return target
        raise
    if held and read_hub_record(target)["commit"] == commit:
        return target
    chosen = needed(source, kind, files)
    part = target.with_name(f"{target.name}.part")
    if held and not part.exists():
        # Most files are the same at the next commit. Where there are no hard links, they are fetched again.
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
    """Fill `part` with the chosen files, and nothing else."""
    held = _clear(part, chosen)
    total = sum(file.size for file in chosen.values())
    require_space(part, total - sum(held.values()))
    progress = _Progress(report, held, total)
    for name, file in chosen.items():
        path = part / name
        if path.exists():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = _unfinished(path, file)
        hub_client.download(source, commit, file, unfinished, partial(progress.tell, name))
        if not file.is_at(unfinished):
            unfinished.unlink()
            raise StageError("hub_bad_hash", repo=source.repo, file=file.path)
        os.replace(unfinished, path)


def _unfinished(path: Path, file: RemoteFile) -> Path:
    """Where a file grows until it is whole: elsewhere for another content, so that the two never mix."""
    return path.with_name(f"{path.name}.{file.version[:16]}.unfinished")


def _clear(part: Path, chosen: Mapping[str, RemoteFile]) -> dict[str, int]:
    """Delete from `part` what is of no use; the bytes that it then holds of each file."""
    part.mkdir(parents=True, exist_ok=True)
    held: dict[str, int] = {}
    useful = set()
    for name, file in chosen.items():
        path = part / name
        unfinished = _unfinished(path, file)
        if file.is_at(path):
            useful.add(path)
            held[name] = file.size
        elif unfinished.is_file() and unfinished.stat().st_size <= file.size:
            useful.add(unfinished)
            held[name] = unfinished.stat().st_size
    for path in part.rglob("*"):
        if path.is_file() and path not in useful:
            path.unlink()
    return held


class _Progress:
    """Adds up the bytes of all files and reports them a few times a second, never going back."""

    def __init__(self, report: Report, held: Mapping[str, int], total: int) -> None:
        self._report = report
        self._held = dict(held)
        self._total = total
        self._done = sum(self._held.values())
        self._reported_at = time.monotonic()
        report(self._done, total)

    def tell(self, name: str, have: int) -> None:
        self._held[name] = have
        done = sum(self._held.values())
        now = time.monotonic()
        if done > self._done and (now - self._reported_at >= _REPORT_EVERY or done == self._total):
            self._done, self._reported_at = done, now
            self._report(done, self._total)


@contextmanager
def _shown(report: Report, as_events: bool) -> Iterator[Report]:
    """Where a person looks on, a bar takes the place of the lines."""
    if as_events or not sys.stderr.isatty():
        yield report
        return
    with tqdm(unit="B", unit_scale=True) as bar:  # type: ignore[no-untyped-call]

        def show(done: int, total: int) -> None:
            if bar.total is None:
                bar.initial, bar.total = done, total
            bar.update(done - bar.n)

        yield show


def _work(arguments: argparse.Namespace, report: Report) -> dict[str, Any]:
    source = HubFolder(arguments.repo, arguments.revision, arguments.subfolder)
    with _shown(report, arguments.events) as shown:
        path = fetch(source, arguments.kind, arguments.folder, shown)
    return {"path": str(path), "commit": read_hub_record(path)["commit"]}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Fetch a model's folder from the Hugging Face hub.")
    parser.add_argument("--repo", required=True, help="the repository, as owner/name")
    parser.add_argument("--revision", default="main", help="a branch, a tag or a commit")
    parser.add_argument("--subfolder", default="", help="the model's folder in the repository")
    parser.add_argument("--kind", choices=["checkpoint", "onnx"], required=True)
    parser.add_argument("--folder", type=Path, required=True, help="the folder to make")
    run_as_program(_work, parser)
