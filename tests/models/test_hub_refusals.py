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
    NOTHING,
    ONNX,
    REPO,
    WEIGHTS,
    ignore,
    program_for,
    refused,
    write,
)

# Refusals


@pytest.mark.parametrize("sha256", ["", "../../x", "F" * 64])
def test_weights_without_a_hash_are_not_downloaded(tmp_path: Path, stand_in: Hub, checkpoint: str, sha256: str) -> None:
    files = stand_in.repos[REPO].commits[checkpoint]
    files[WEIGHTS] = replace(files[WEIGHTS], sha256=sha256)

    error = refused(HubFolder(REPO), tmp_path / "made")

    assert (error.code, error.values["detail"]) == ("hub_interrupted", f"no hash is given for {WEIGHTS}")
    assert stand_in.asked_for(WEIGHTS) == []


def test_a_pinned_commit_is_the_one_that_is_downloaded(tmp_path: Path, stand_in: Hub, checkpoint: str) -> None:
    stand_in.tag(REPO, "0" * 40, checkpoint)

    error = refused(HubFolder(REPO, "0" * 40), tmp_path / "made")

    assert (error.code, error.values["detail"]) == ("hub_interrupted", f"the answer is about {checkpoint}")


def test_the_token_is_sent_to_the_hub_and_to_no_other_host(
    tmp_path: Path, stand_in: Hub, checkpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in.tokens["hf_mine"] = {REPO}
    stand_in.repos[REPO].gated = stand_in.repos[REPO].private = True
    monkeypatch.setenv("HF_TOKEN", "hf_mine")

    fetch(HubFolder(REPO), "checkpoint", tmp_path / "made", ignore)

    assert {one.token for one in stand_in.requests if not one.on_cdn} == {"hf_mine"}
    on_cdn = [one for one in stand_in.requests if one.on_cdn]
    assert {one.path for one in on_cdn} == {WEIGHTS, "model-00001-of-00002.safetensors"}
    assert {one.token for one in on_cdn} == {""}
    assert not any("hf_mine" in str(one.headers) for one in on_cdn)


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
    stand_in: Hub,
    checkpoint: str,
    monkeypatch: pytest.MonkeyPatch,
    token: str,
    gated: bool,
    private: bool,
    code: str,
) -> None:
    stand_in.tokens["hf_other"] = set()
    stand_in.repos[REPO].gated, stand_in.repos[REPO].private = gated, private
    monkeypatch.setenv("HF_TOKEN", token)

    error = refused(HubFolder(REPO), tmp_path / "made")

    assert error.code == code
    assert "HF_TOKEN" in str(error)
    if code == "hub_gated":
        assert f"https://huggingface.co/{REPO}" in str(error)


@pytest.mark.parametrize("repo", ["someone/nothing", "no such name", "a/b/c", "-x-/..", "ș/ț"])
def test_a_missing_repository_is_reported(tmp_path: Path, stand_in: Hub, repo: str) -> None:
    error = refused(HubFolder(repo), tmp_path / "made")

    assert (error.code, error.values) == ("hub_not_found", {"repo": repo})


@pytest.mark.parametrize(
    ("revision", "code"), [("v9", "hub_no_revision"), ("refs/pr/1", "hub_no_revision"), ("0" * 40, "hub_no_commit")]
)
def test_a_missing_revision_is_reported(
    tmp_path: Path, stand_in: Hub, checkpoint: str, revision: str, code: str
) -> None:
    error = refused(HubFolder(REPO, revision), tmp_path / "made")

    assert (error.code, error.values) == (code, {"repo": REPO, "revision": revision})


@pytest.mark.parametrize(
    ("where", "status", "code", "asked"),
    [
        ("api", 500, "hub_interrupted", 0),
        ("api", 403, "hub_forbidden", 0),
        (WEIGHTS, 403, "hub_forbidden", 1),
        (WEIGHTS, 503, "hub_interrupted", 4),
    ],
)
def test_a_failing_hub_is_reported(
    tmp_path: Path, stand_in: Hub, checkpoint: str, where: str, status: int, code: str, asked: int
) -> None:
    stand_in.answers[where] = status

    error = refused(HubFolder(REPO), tmp_path / "made")

    assert error.code == code
    assert len(stand_in.asked_for(WEIGHTS)) == asked, "what may pass is tried again"


def test_an_unreachable_hub_is_reported_with_its_address(
    tmp_path: Path, stand_in: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", NOTHING)

    error = refused(HubFolder(REPO), tmp_path / "made")

    assert (error.code, error.values["endpoint"]) == ("hub_offline", NOTHING)


def test_an_invalid_hub_address_is_reported(tmp_path: Path, stand_in: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    for address in ("localhost:80", "http://[", "/"):
        monkeypatch.setenv("HF_ENDPOINT", address)
        assert refused(HubFolder(REPO), tmp_path / "made").code == "hub_offline"


def test_a_wrong_folder_is_reported_with_the_available_ones(tmp_path: Path, stand_in: Hub) -> None:
    folders = ["cpu/int4", "cuda/fp16"]
    files = {f"{folder}/{name}": 5 for folder in folders for name in ONNX}
    stand_in.add(REPO, write(tmp_path / "repo", {**files, "config.json": 5, "README.md": 5}))

    for folder in ("", "cpu", "cpu/int8"):
        error = refused(HubFolder(REPO, folder=folder), tmp_path / "made", "onnx")
        assert (error.code, error.values["folders"]) == ("hub_wrong_folder", "cpu/int4, cuda/fp16")
        assert error.values["folder"] == (folder or "/")
    error = refused(HubFolder(REPO), tmp_path / "made")
    assert error.code == "hub_no_model"
    assert "safetensors" in str(error)
    assert stand_in.sent == {}, "nothing was fetched"


def test_missing_disk_space_is_reported_before_anything_is_fetched(
    tmp_path: Path, stand_in: Hub, checkpoint: str
) -> None:
    files = stand_in.repos[REPO].commits[checkpoint]
    files[WEIGHTS] = replace(files[WEIGHTS], size=10**18)

    error = refused(HubFolder(REPO), tmp_path / "made")

    assert error.code == "disk_full"
    assert int(error.values["need_mb"]) >= 10**12
    assert stand_in.sent == {}


# The program


def test_the_program_reports_its_progress_and_the_commit(tmp_path: Path, stand_in: Hub, checkpoint: str) -> None:
    target = tmp_path / "made"

    program = program_for(target, "--events", "--revision", "main")
    events = [json.loads(line) for line in program.communicate()[0].splitlines()]

    assert program.returncode == 0
    assert events[-1] == {"result": {"path": str(target), "commit": checkpoint}}
    assert events[-2] == {"progress": [sum(CHECKPOINT.values())] * 2}
    assert all(event.keys() == {"progress"} for event in events[:-1])


def test_a_terminal_shows_a_progress_bar(tmp_path: Path, stand_in: Hub, checkpoint: str) -> None:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        program = program_for(tmp_path / "made", stderr=theirs)
        os.close(theirs)
        shown = b""
        try:
            while piece := terminal.read(4096):
                shown += piece
        except OSError:  # a terminal reports in this way that the other end was closed
            pass
        said = program.communicate()[0]

    assert program.returncode == 0
    assert "100%|" in shown.decode()
    assert json.loads(said) == {"path": str(tmp_path / "made"), "commit": checkpoint}


def test_offline_mode_is_reported(tmp_path: Path, stand_in: Hub, checkpoint: str) -> None:
    program = program_for(tmp_path / "made", "--events", env={**os.environ, "HF_HUB_OFFLINE": "1"})

    events = [json.loads(line) for line in program.communicate()[0].splitlines()]

    assert program.returncode == 1
    assert events == [{"error": {"code": "hub_disabled", "values": {"repo": REPO}}}]
    assert stand_in.requests == []


def test_a_disk_that_fills_up_is_reported(tmp_path: Path, stand_in: Hub, checkpoint: str) -> None:
    part = tmp_path / "made.part"
    part.mkdir()
    version = stand_in.repos[REPO].commits[checkpoint][WEIGHTS].sha256[:16]
    (part / f"{WEIGHTS}.{version}.unfinished").symlink_to("/dev/full")

    program = program_for(tmp_path / "made", "--events")
    last = json.loads(program.communicate()[0].splitlines()[-1])

    assert program.returncode == 1
    assert last["error"]["code"] == "disk_filled"
