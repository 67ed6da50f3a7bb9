"""Failures of hub, network and disk, each reported with its cure; and the download program."""

import json
import os
import pty
import termios
from dataclasses import replace
from pathlib import Path

import pytest

from models.hub import fetch
from models.presets import HubFolder
from tests.support.hub import Hub
from tests.support.tiny_repo import (
    CHECKPOINT,
    ONNX,
    REPO,
    UNREACHABLE_URL,
    WEIGHTS,
    fetch_expecting_error,
    ignore,
    start_fetch,
    write,
)

# Refusals


@pytest.mark.parametrize("sha256", ["", "../../x", "F" * 64])
def test_weights_without_a_hash_are_not_downloaded(tmp_path: Path, fake_hub: Hub, checkpoint: str, sha256: str) -> None:
    files = fake_hub.repos[REPO].commits[checkpoint]
    files[WEIGHTS] = replace(files[WEIGHTS], sha256=sha256)

    error = fetch_expecting_error(HubFolder(REPO), tmp_path / "made")

    assert (error.code, error.values["detail"]) == ("hub_interrupted", f"no hash is given for {WEIGHTS}")
    assert fake_hub.find_requests(WEIGHTS) == []


def test_another_commit_than_the_pinned_one_is_refused(tmp_path: Path, fake_hub: Hub, checkpoint: str) -> None:
    fake_hub.tag(REPO, "0" * 40, checkpoint)

    error = fetch_expecting_error(HubFolder(REPO, "0" * 40), tmp_path / "made")

    assert (error.code, error.values["detail"]) == ("hub_interrupted", f"the answer is about {checkpoint}")


def test_the_token_is_sent_only_to_the_hub(
    tmp_path: Path, fake_hub: Hub, checkpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_hub.tokens["hf_mine"] = {REPO}
    fake_hub.repos[REPO].gated = fake_hub.repos[REPO].private = True
    monkeypatch.setenv("HF_TOKEN", "hf_mine")

    fetch(HubFolder(REPO), "checkpoint", tmp_path / "made", ignore)

    assert {request.token for request in fake_hub.requests if not request.on_cdn} == {"hf_mine"}
    cdn_requests = [request for request in fake_hub.requests if request.on_cdn]
    assert {request.path for request in cdn_requests} == {WEIGHTS, "model-00001-of-00002.safetensors"}
    assert {request.token for request in cdn_requests} == {""}
    assert not any("hf_mine" in str(request.headers) for request in cdn_requests)


@pytest.mark.parametrize(
    ("token", "gated", "private", "code"),
    [
        ("", True, False, "hub_gated"),
        ("hf_other", True, False, "hub_gated"),
        ("", False, True, "hub_not_found"),
        ("hf_other", False, True, "hub_not_found"),
        ("hf_expired", False, False, "hub_bad_token"),
    ],
)
def test_a_forbidden_repository_is_reported_with_its_cure(
    tmp_path: Path,
    fake_hub: Hub,
    checkpoint: str,
    monkeypatch: pytest.MonkeyPatch,
    token: str,
    gated: bool,
    private: bool,
    code: str,
) -> None:
    fake_hub.tokens["hf_other"] = set()
    fake_hub.repos[REPO].gated, fake_hub.repos[REPO].private = gated, private
    monkeypatch.setenv("HF_TOKEN", token)

    error = fetch_expecting_error(HubFolder(REPO), tmp_path / "made")

    assert error.code == code
    assert "HF_TOKEN" in str(error)
    if code == "hub_gated":
        assert f"https://huggingface.co/{REPO}" in str(error)


@pytest.mark.parametrize("repo", ["someone/nothing", "no such name", "a/b/c", "-x-/..", "ș/ț"])
def test_a_missing_repository_is_reported(tmp_path: Path, fake_hub: Hub, repo: str) -> None:
    error = fetch_expecting_error(HubFolder(repo), tmp_path / "made")

    assert (error.code, error.values) == ("hub_not_found", {"repo": repo})


@pytest.mark.parametrize(
    ("revision", "code"), [("v9", "hub_no_revision"), ("refs/pr/1", "hub_no_revision"), ("0" * 40, "hub_no_commit")]
)
def test_a_missing_revision_is_reported(
    tmp_path: Path, fake_hub: Hub, checkpoint: str, revision: str, code: str
) -> None:
    error = fetch_expecting_error(HubFolder(REPO, revision), tmp_path / "made")

    assert (error.code, error.values) == (code, {"repo": REPO, "revision": revision})


@pytest.mark.parametrize(
    ("failing_path", "status", "code", "requests"),
    [
        ("api", 500, "hub_interrupted", 0),
        ("api", 403, "hub_forbidden", 0),
        (WEIGHTS, 403, "hub_forbidden", 1),
        (WEIGHTS, 503, "hub_interrupted", 4),
    ],
)
def test_a_failing_hub_is_reported(
    tmp_path: Path, fake_hub: Hub, checkpoint: str, failing_path: str, status: int, code: str, requests: int
) -> None:
    fake_hub.error_statuses[failing_path] = status

    error = fetch_expecting_error(HubFolder(REPO), tmp_path / "made")

    assert error.code == code
    assert len(fake_hub.find_requests(WEIGHTS)) == requests, "temporary errors are retried"


def test_an_unreachable_hub_is_reported_with_its_address(
    tmp_path: Path, fake_hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", UNREACHABLE_URL)

    error = fetch_expecting_error(HubFolder(REPO), tmp_path / "made")

    assert (error.code, error.values["endpoint"]) == ("hub_offline", UNREACHABLE_URL)


def test_an_invalid_hub_address_is_reported(tmp_path: Path, fake_hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    for address in ("localhost:80", "http://[", "/"):
        monkeypatch.setenv("HF_ENDPOINT", address)
        assert fetch_expecting_error(HubFolder(REPO), tmp_path / "made").code == "hub_offline"


def test_a_wrong_folder_is_reported_with_the_available_ones(tmp_path: Path, fake_hub: Hub) -> None:
    folders = ["cpu/int4", "cuda/fp16"]
    files = {f"{folder}/{name}": 5 for folder in folders for name in ONNX}
    fake_hub.add(REPO, write(tmp_path / "repo", {**files, "config.json": 5, "README.md": 5}))

    for folder in ("", "cpu", "cpu/int8"):
        error = fetch_expecting_error(HubFolder(REPO, folder=folder), tmp_path / "made", "onnx")
        assert (error.code, error.values["folders"]) == ("hub_wrong_folder", "cpu/int4, cuda/fp16")
        assert error.values["folder"] == (folder or "/")
    error = fetch_expecting_error(HubFolder(REPO), tmp_path / "made")
    assert error.code == "hub_no_model"
    assert "safetensors" in str(error)
    assert fake_hub.sent_bytes == {}, "nothing was fetched"


def test_missing_disk_space_is_reported_before_anything_is_fetched(
    tmp_path: Path, fake_hub: Hub, checkpoint: str
) -> None:
    files = fake_hub.repos[REPO].commits[checkpoint]
    files[WEIGHTS] = replace(files[WEIGHTS], size=10**18)

    error = fetch_expecting_error(HubFolder(REPO), tmp_path / "made")

    assert error.code == "disk_full"
    assert int(error.values["need_mb"]) >= 10**12
    assert fake_hub.sent_bytes == {}


# The program


def test_the_program_reports_its_progress_and_the_commit(tmp_path: Path, fake_hub: Hub, checkpoint: str) -> None:
    target = tmp_path / "made"

    program = start_fetch(target, "--events", "--revision", "main")
    events = [json.loads(line) for line in program.communicate()[0].splitlines()]

    assert program.returncode == 0
    assert events[-1] == {"result": {"path": str(target), "commit": checkpoint}}
    assert events[-2] == {"progress": [sum(CHECKPOINT.values())] * 2}
    assert all(event.keys() == {"progress"} for event in events[:-1])


def test_a_terminal_shows_a_progress_bar(tmp_path: Path, fake_hub: Hub, checkpoint: str) -> None:
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (24, 80))
    with os.fdopen(master, "rb", buffering=0) as terminal:
        program = start_fetch(tmp_path / "made", stderr=slave)
        os.close(slave)
        shown = b""
        try:
            while chunk := terminal.read(4096):
                shown += chunk
        except OSError:  # how a terminal reports that the other end was closed
            pass
        output = program.communicate()[0]

    assert program.returncode == 0
    assert "100%|" in shown.decode()
    assert json.loads(output) == {"path": str(tmp_path / "made"), "commit": checkpoint}


def test_offline_mode_is_reported(tmp_path: Path, fake_hub: Hub, checkpoint: str) -> None:
    program = start_fetch(tmp_path / "made", "--events", env={**os.environ, "HF_HUB_OFFLINE": "1"})

    events = [json.loads(line) for line in program.communicate()[0].splitlines()]

    assert program.returncode == 1
    assert events == [{"error": {"code": "hub_disabled", "values": {"repo": REPO}}}]
    assert fake_hub.requests == []


def test_a_disk_that_fills_up_is_reported(tmp_path: Path, fake_hub: Hub, checkpoint: str) -> None:
    part = tmp_path / "made.part"
    part.mkdir()
    version = fake_hub.repos[REPO].commits[checkpoint][WEIGHTS].sha256[:16]
    (part / f"{WEIGHTS}.{version}.unfinished").symlink_to("/dev/full")

    program = start_fetch(tmp_path / "made", "--events")
    last = json.loads(program.communicate()[0].splitlines()[-1])

    assert program.returncode == 1
    assert last["error"]["code"] == "disk_filled"
