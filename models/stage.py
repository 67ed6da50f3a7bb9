"""Shared parts of all stages of preparing a model: progress reports, errors with a cure, atomic folders.

A stage is a module that runs as a program. With `--events` it prints one JSON object per line:
`{"progress": [done, total]}`, `{"result": {…}}` or `{"error": {"code": …, "values": {…}}}`; otherwise the same as plain text.
"""

import argparse
import errno
import gc
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from models import disable_telemetry

# One sentence with a cure, by error code. phi3_ui/i18n/translate.py shows these and their translations.
SENTENCES = {
    "no_network": "{what} could not be downloaded: no package index answers. Check the network, then try again.",
    "download_failed": "{what} could not be downloaded ({detail}). Check pip's settings, then try again.",
    "bad_hash": "{file} is not the expected file (its SHA-256 differs) and was deleted. "
    "Try again; if it happens twice, the package index serves a modified file.",
    "disk_full": "The disk of {folder} is full: {need_mb} MB are needed, {free_mb} MB are free. Free some space, then try again.",
    "disk_filled": "The disk of {folder} filled up ({free_mb} MB are free). Free some space, then try again.",
    "not_writable": "{folder} is not writable. Give this user write permission, or choose another folder.",
    "wrong_model_folder": "{folder} contains no {kind}: {missing} is missing. Choose the folder that contains the model's files.",
    "no_chat_template": "The model in {folder} has no chat template, so it is not a chat model. "
    "Choose its instruct or chat variant, or add chat_template.jinja to the folder.",
    "bad_chat_template": "The chat template in {file} cannot be rendered ({detail}). Correct it, or choose another model.",
    "needs_remote_code": "The architecture of the model in {folder} ({kind}) is not part of transformers {version} and needs the model's own code, "
    "which this app does not run. Choose a model with a supported architecture, or install a transformers version that supports it.",
    "hub_gated": "{repo} is gated. Accept its licence at https://huggingface.co/{repo}, set HF_TOKEN to a token of that account "
    "or run `hf auth login`, then try again.",
    "hub_forbidden": "This token is not allowed to read {repo}. Change its permissions at "
    "https://huggingface.co/settings/tokens, or set HF_TOKEN to another one.",
    "hub_bad_token": "The hub rejected the token. Set HF_TOKEN to a valid one, or run `hf auth login`, then try again.",
    "hub_not_found": "The hub has no model {repo}, or it is private. Check the name; "
    "if it is private, set HF_TOKEN to a token that may read it.",
    "hub_no_revision": "{repo} has no revision {revision}. Use one of its branches, tags or full commit hashes.",
    "hub_no_commit": "{repo} has no commit {revision}: its history was rewritten, or the hash is wrong. "
    "Use another commit, or the revision main for the newest files, which may contain other weights.",
    "hub_no_model": "{repo} contains no model of this kind: none of its folders has {mark}. Choose another repository.",
    "hub_wrong_folder": "The folder {folder} of {repo} contains no model of this kind ({mark} is missing). "
    "Choose one of these: {folders}.",
    "hub_offline": "{repo} could not be downloaded: {endpoint} does not answer ({detail}). "
    "Check the network and HF_ENDPOINT, or use a folder on this machine.",
    "hub_disabled": "{repo} could not be downloaded: HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set. "
    "Unset it, or use a folder on this machine.",
    "hub_interrupted": "The download of {repo} kept failing ({detail}). The downloaded part is kept: try again to resume.",
    "hub_bad_hash": "{file} of {repo} does not match the hash given by the hub, and was deleted. "
    "Try again; if it happens twice, a proxy may be modifying files.",
    "hub_busy": "{repo} is being downloaded into {folder} by another process. Wait until it has finished, then try again.",
    "hub_folder_taken": "{folder} contains something else. Delete it, or choose another folder.",
    "store_unreachable": "The tracking store {uri} does not answer ({detail}). "
    "Check MLFLOW_TRACKING_URI and that its server runs, then try again.",
    "store_read_only": "The tracking store {uri} is read-only ({detail}). "
    "Ask its administrator for write access, or set MLFLOW_TRACKING_URI to your own store.",
    "store_schema_new": "The tracking store {uri} was written by a newer MLflow than the installed {version}. "
    "Use a newer version of this app, or set MLFLOW_TRACKING_URI to another store.",
    "store_schema_old": "The tracking store {uri} was written by an older MLflow than the installed {version}. "
    "Back it up, upgrade it with `mlflow db upgrade {store}`, then start again.",
    "experiment_deleted": "The experiment {name} of the tracking store is deleted, along with its models and chats. "
    "Restore it with `MLFLOW_TRACKING_URI={store} mlflow experiments restore --experiment-id {id}`; until then, new chats are kept on this computer.",
    "run_deleted": "The run {name} of the tracking store is deleted. "
    "Restore it with `MLFLOW_TRACKING_URI={store} mlflow runs restore --run-id {id}`, or unset MLFLOW_RUN_ID, then try again.",
    "log_failed": "The model could not be written to the tracking store: {detail}. "
    "Try again: completed steps are kept. The log is {log}.",
    "stage_failed": "A step failed: {detail}. Try again; if it fails again, delete {folder} and start over. The log is {log}.",
    "stage_killed": "The operating system terminated a step, most likely because memory ran out. "
    "Close other programs, then try again: completed steps are kept. The log is {log}.",
}

Report = Callable[[int, int], None]
"""Called with (done, total), in bytes or steps, depending on the stage."""


class StageError(Exception):
    """An expected failure with a cure: a code of SENTENCES and the values for its placeholders."""

    def __init__(self, code: str, **values: str | int) -> None:
        super().__init__(SENTENCES[code].format(**values))
        self.code = code
        self.values = values


def require_space(folder: Path, need: int) -> None:
    """Create `folder`, and raise StageError("disk_full") unless `need` bytes are free on its disk."""
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < need:
        raise StageError("disk_full", folder=str(folder), need_mb=need // 10**6 + 1, free_mb=free // 10**6)


@contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """Create `target` atomically: the block fills a temporary folder next to it, which is renamed if no error was raised.

    Temporary folders of killed runs are removed. Raises OSError if `target` exists and is not empty.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{target.name}.part-"
    for stale in target.parent.glob(f"{prefix}*"):
        shutil.rmtree(stale, ignore_errors=True)
    part = Path(tempfile.mkdtemp(prefix=prefix, dir=target.parent))
    try:
        yield part
        part.chmod(0o755)
        os.replace(part, target)
    finally:
        shutil.rmtree(part, ignore_errors=True)


@contextmanager
def scratch_folder(parent: Path, name: str) -> Iterator[Path]:
    """Provide a temporary folder in `parent` for the duration of the block. Folders of killed runs are removed."""
    for stale in parent.glob(f".{name}-*"):
        shutil.rmtree(stale, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=parent) as folder:
        yield Path(folder)


def _find_stage_error(error: Exception, folder: Path) -> StageError | None:
    """Return the StageError for an operating system error, even if a library wrapped it; None for other errors."""
    code = error.errno if isinstance(error, OSError) else None
    if code == errno.ENOSPC or os.strerror(errno.ENOSPC) in str(error):
        free = shutil.disk_usage(folder.parent if folder.parent.exists() else "/").free // 10**6
        return StageError("disk_filled", folder=str(folder), free_mb=free)
    if code in (errno.EACCES, errno.EROFS, errno.EPERM):
        return StageError(
            "not_writable", folder=str(error.filename or folder) if isinstance(error, OSError) else str(folder)
        )
    return None


def _redirect_stdout() -> int:
    """Redirect the standard output of libraries to standard error. Return the file descriptor of the real standard output."""
    original = os.dup(1)
    os.dup2(2, 1)
    return original


def run_as_program(
    work: Callable[[argparse.Namespace, Report], dict[str, Any]], parser: argparse.ArgumentParser
) -> None:
    """Run `work` with the parsed arguments, which include a `folder`, and print its result. Exit with 1 on a StageError."""
    disable_telemetry()
    gc.freeze()  # the objects created by imports are permanent
    parser.add_argument("--events", action="store_true", help="print one JSON object per line")
    arguments = parser.parse_args()
    out = os.fdopen(_redirect_stdout(), "w", encoding="utf-8")

    def emit(kind: str, value: Any, text: str) -> None:
        print(json.dumps({kind: value}) if arguments.events else text, file=out, flush=True)

    def report(done: int, total: int) -> None:
        emit("progress", [done, total], f"{done:,} of {total:,} ({100 * done // max(total, 1)} %)")

    try:
        result = work(arguments, report)
    except Exception as error:
        failure = error if isinstance(error, StageError) else _find_stage_error(error, Path(arguments.folder))
        if failure is None:
            raise
        emit("error", {"code": failure.code, "values": failure.values}, str(failure))
        sys.exit(1)
    emit("result", result, json.dumps(result))
