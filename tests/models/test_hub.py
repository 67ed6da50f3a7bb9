"""Downloads from the hub through its real client: selected files, progress, and resuming after interruptions."""

import subprocess
import time
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.hub import fetch
from models.hub_files import RemoteFile, read_hub_record, select_files
from models.presets import HubFolder
from tests.support.hub import Hub
from tests.support.tiny_repo import (
    BIG,
    CHECKPOINT,
    ONNX,
    REPO,
    UNREACHABLE_URL,
    WEIGHTS,
    fetch_expecting_error,
    has_same_contents,
    ignore,
    list_files,
    start_fetch,
    write,
)

# Selected files


def test_only_the_files_of_a_checkpoint_are_requested(tmp_path: Path, fake_hub: Hub, checkpoint: str) -> None:
    target = fetch(HubFolder(REPO), "checkpoint", tmp_path / "made" / "it", ignore)

    assert target == tmp_path / "made" / "it"
    assert list_files(target) == {*CHECKPOINT, "hub.json"}
    assert has_same_contents(target, tmp_path / "repo", CHECKPOINT)
    assert {request.path for request in fake_hub.requests} == {*CHECKPOINT, f"/api/models/{REPO}/revision/main"}
    assert read_hub_record(target) == {"repo": REPO, "revision": "main", "folder": "", "commit": checkpoint}
    assert list(target.parent.iterdir()) == [target], "no other file is left"


def test_an_onnx_folder_is_downloaded_with_the_card_and_licence_of_its_repository(
    tmp_path: Path, fake_hub: Hub
) -> None:
    folder = "cpu/int4"
    repo = {f"{folder}/{name}": size for name, size in ONNX.items()}
    other = {"genai_config.json": 3, "README.md": 9, "LICENSE": 8, "cuda/genai_config.json": 3, "cuda/model.onnx": 3}
    nested = {f"{folder}/variant/genai_config.json": 3, f"{folder}/variant/model.onnx": 3, f"{folder}/run.py": 3}
    fake_hub.add(REPO, write(tmp_path / "repo", {**repo, **other, **nested}))

    target = fetch(HubFolder(REPO, folder=f"{folder}/"), "onnx", tmp_path / "onnx", ignore)

    assert list_files(target) == {*ONNX, "README.md", "LICENSE", "hub.json"}
    assert has_same_contents(target, tmp_path / "repo" / folder, ONNX)
    assert read_hub_record(target)["folder"] == folder


def test_a_revision_is_a_branch_a_tag_or_a_commit(tmp_path: Path, fake_hub: Hub, checkpoint: str) -> None:
    fake_hub.tag(REPO, "v1", checkpoint)
    newer = fake_hub.add(REPO, write(tmp_path / "newer", CHECKPOINT, b"newer"))

    for revision, commit, source in [
        ("main", newer, "newer"),
        ("v1", checkpoint, "repo"),
        (checkpoint,) * 2 + ("repo",),
    ]:
        target = fetch(HubFolder(REPO, revision), "checkpoint", tmp_path / f"at-{revision}", ignore)
        assert read_hub_record(target)["commit"] == commit
        assert has_same_contents(target, tmp_path / source, CHECKPOINT)


def test_a_complete_pinned_download_makes_no_requests(tmp_path: Path, fake_hub: Hub, checkpoint: str) -> None:
    target = fetch(HubFolder(REPO), "checkpoint", tmp_path / "made", ignore)
    fake_hub.requests.clear()

    assert fetch(HubFolder(REPO, checkpoint), "checkpoint", target, ignore) == target
    assert fake_hub.requests == []

    assert fetch(HubFolder(REPO), "checkpoint", target, ignore) == target
    assert [request.path for request in fake_hub.requests] == [f"/api/models/{REPO}/revision/main"], (
        "the branch may have moved"
    )


def test_only_the_changed_files_of_a_newer_commit_are_fetched(tmp_path: Path, fake_hub: Hub, checkpoint: str) -> None:
    target = fetch(HubFolder(REPO), "checkpoint", tmp_path / "made", ignore)
    newer = write(tmp_path / "newer", CHECKPOINT)
    (newer / "README.md").write_text("# Better words")
    (newer / "LICENSE").unlink()
    commit = fake_hub.add(REPO, newer)
    fake_hub.requests.clear()

    fetch(HubFolder(REPO), "checkpoint", target, ignore)

    assert [request.path for request in fake_hub.requests[1:]] == ["README.md"]
    assert list_files(target) == {*CHECKPOINT, "hub.json"} - {"LICENSE"}
    assert (target / "README.md").read_text() == "# Better words"
    assert read_hub_record(target)["commit"] == commit


def test_a_complete_download_is_used_while_the_hub_is_unreachable(
    tmp_path: Path, fake_hub: Hub, checkpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = fetch(HubFolder(REPO), "checkpoint", tmp_path / "made", ignore)
    fake_hub.tag(REPO, "v1", checkpoint)
    monkeypatch.setenv("HF_ENDPOINT", UNREACHABLE_URL)

    assert fetch(HubFolder(REPO), "checkpoint", target, ignore) == target
    assert fetch_expecting_error(HubFolder(REPO, "v1"), target).code == "hub_offline", (
        "another revision may be other files"
    )


def test_a_folder_with_other_content_is_left_unchanged(tmp_path: Path, fake_hub: Hub, checkpoint: str) -> None:
    users_folder = write(tmp_path / "mine", {"diary.txt": 20})
    fetched_folder = fetch(HubFolder(REPO), "checkpoint", tmp_path / "made", ignore)
    fake_hub.add("someone/else", tmp_path / "repo")

    assert fetch_expecting_error(HubFolder(REPO), users_folder).code == "hub_folder_taken"
    assert fetch_expecting_error(HubFolder("someone/else"), fetched_folder).code == "hub_folder_taken"
    assert list_files(users_folder) == {"diary.txt"}


def test_a_path_outside_the_folder_is_not_written(tmp_path: Path, fake_hub: Hub) -> None:
    commit = fake_hub.add(REPO, write(tmp_path / "repo", ONNX))
    files = fake_hub.repos[REPO].commits[commit]
    for path in ["../evil.txt", "more/../../evil.txt", "/evil.txt", "a\\..\\evil.txt", "C:/evil.txt", "//evil.txt"]:
        files[path] = files["model.onnx"]

    target = fetch(HubFolder(REPO), "onnx", tmp_path / "made" / "it", ignore)

    assert list_files(target) == {*ONNX, "hub.json"}
    assert list(tmp_path.rglob("*evil*")) == []


_paths = st.lists(st.sampled_from(["a", "cpu", "..", ".", "", "model.onnx", "x.py", "genai_config.json", "\\", "é"]))


@given(st.lists(st.one_of(_paths.map("/".join), st.text())))
def test_no_listing_leads_outside_the_folder_or_to_code(paths: list[str]) -> None:
    files = [RemoteFile(path, 1) for path in [*paths, "cpu/genai_config.json"]]

    for name in select_files(HubFolder(REPO, folder="cpu"), "onnx", files):
        path = PurePosixPath(name)
        assert path.parts
        assert not path.is_absolute()
        assert ".." not in path.parts
        assert path.suffix != ".py"


# Progress


def test_progress_counts_the_bytes_of_all_files_and_never_decreases(
    tmp_path: Path, fake_hub: Hub, checkpoint: str
) -> None:
    fake_hub.breaks[WEIGHTS] = [100_000]
    total = sum(CHECKPOINT.values())
    reports: list[tuple[int, int]] = []

    fetch(HubFolder(REPO), "checkpoint", tmp_path / "made", lambda *report: reports.append(report))

    assert {reported_total for _, reported_total in reports} == {total}
    done = [done for done, _ in reports]
    assert done == sorted(set(done))
    assert (done[0], done[-1]) == (0, total)


def test_files_downloaded_earlier_count_as_done(tmp_path: Path, fake_hub: Hub, checkpoint: str) -> None:
    fake_hub.breaks[WEIGHTS], fake_hub.breaks_always[WEIGHTS] = [100_000], 0
    fetch_expecting_error(HubFolder(REPO), tmp_path / "made")
    fake_hub.breaks_always.clear()
    reports: list[tuple[int, int]] = []

    fetch(HubFolder(REPO), "checkpoint", tmp_path / "made", lambda *report: reports.append(report))

    assert reports[0][0] >= 100_000
    assert reports[-1] == (sum(CHECKPOINT.values()),) * 2


# Interrupted downloads


def test_a_broken_connection_is_resumed_at_the_byte_reached(tmp_path: Path, fake_hub: Hub, checkpoint: str) -> None:
    fake_hub.breaks[WEIGHTS] = [100_000, 0, 0, 50_000]

    target = fetch(HubFolder(REPO), "checkpoint", tmp_path / "made", ignore)

    assert has_same_contents(target, tmp_path / "repo", CHECKPOINT)
    ranges = [request.range_header for request in fake_hub.find_requests(WEIGHTS)]
    assert ranges == ["", "bytes=100000-", "bytes=100000-", "bytes=100000-", "bytes=150000-"]
    assert fake_hub.sent_bytes[WEIGHTS] == BIG, "no byte was sent twice"


def test_a_download_that_keeps_failing_is_reported_and_resumed_by_the_next_attempt(
    tmp_path: Path, fake_hub: Hub, checkpoint: str
) -> None:
    fake_hub.breaks[WEIGHTS], fake_hub.breaks_always[WEIGHTS] = [100_000], 0

    error = fetch_expecting_error(HubFolder(REPO), tmp_path / "made")

    assert (error.code, error.values["repo"]) == ("hub_interrupted", REPO)
    assert not (tmp_path / "made").exists()

    fake_hub.breaks_always.clear()
    fake_hub.requests.clear()
    target = fetch(HubFolder(REPO), "checkpoint", tmp_path / "made", ignore)
    assert has_same_contents(target, tmp_path / "repo", CHECKPOINT)
    assert [request.range_header for request in fake_hub.find_requests(WEIGHTS)] == ["bytes=100000-"]
    assert fake_hub.sent_bytes == CHECKPOINT, "no byte of any file was sent twice"


def test_a_killed_fetch_resumes_at_the_byte_reached(tmp_path: Path, fake_hub: Hub, checkpoint: str) -> None:
    target = tmp_path / "made"
    fake_hub.pause_after_bytes[WEIGHTS] = 200_000
    program = start_fetch(target, "--events")
    assert fake_hub.paused.wait(300)
    _wait_until_written(target, 190_000, program)
    assert fetch_expecting_error(HubFolder(REPO), target).code == "hub_busy", "only one download at a time"
    program.kill()
    assert program.wait() == -9
    program.communicate()
    assert not target.exists()
    fake_hub.resume.set()
    fake_hub.requests.clear()

    fetch(HubFolder(REPO), "checkpoint", target, ignore)

    assert has_same_contents(target, tmp_path / "repo", CHECKPOINT)
    (request,) = fake_hub.find_requests(WEIGHTS)
    offset = int(request.range_header.removeprefix("bytes=").removesuffix("-"))
    assert 190_000 <= offset <= 200_000
    assert fake_hub.find_requests("model-00001-of-00002.safetensors") == [], "complete files are not fetched again"


def _wait_until_written(target: Path, size: int, program: subprocess.Popen[str]) -> None:
    """Wait until the program has written this many bytes of the weights."""
    part = target.with_name(f"{target.name}.part")
    while not any(file.stat().st_size >= size for file in part.glob(f"{WEIGHTS}.*")):
        assert program.poll() is None
        time.sleep(0.01)


def test_a_file_that_changed_between_two_attempts_starts_over(tmp_path: Path, fake_hub: Hub, checkpoint: str) -> None:
    fake_hub.breaks[WEIGHTS], fake_hub.breaks_always[WEIGHTS] = [100_000], 0
    fetch_expecting_error(HubFolder(REPO), tmp_path / "made")
    fake_hub.breaks_always.clear()
    fake_hub.add(REPO, write(tmp_path / "newer", CHECKPOINT, b"newer"))
    fake_hub.requests.clear()

    target = fetch(HubFolder(REPO), "checkpoint", tmp_path / "made", ignore)

    assert has_same_contents(target, tmp_path / "newer", CHECKPOINT)
    assert [request.range_header for request in fake_hub.find_requests(WEIGHTS)] == [""]
    assert list_files(target) == {*CHECKPOINT, "hub.json"}


def test_without_range_requests_the_file_is_downloaded_again(tmp_path: Path, fake_hub: Hub, checkpoint: str) -> None:
    fake_hub.breaks[WEIGHTS] = [100_000]
    fake_hub.without_ranges = True

    target = fetch(HubFolder(REPO), "checkpoint", tmp_path / "made", ignore)

    assert has_same_contents(target, tmp_path / "repo", CHECKPOINT)


@pytest.mark.parametrize("file", [WEIGHTS, "config.json"])
def test_a_file_with_a_wrong_hash_is_refused_and_not_kept(
    tmp_path: Path, fake_hub: Hub, checkpoint: str, file: str
) -> None:
    fake_hub.corrupt_files.add(file)

    error = fetch_expecting_error(HubFolder(REPO), tmp_path / "made")

    assert (error.code, error.values) == ("hub_bad_hash", {"repo": REPO, "file": file})
    assert not any(name.startswith(file) for name in list_files(tmp_path / "made.part"))

    fake_hub.corrupt_files.clear()
    assert has_same_contents(
        fetch(HubFolder(REPO), "checkpoint", tmp_path / "made", ignore), tmp_path / "repo", CHECKPOINT
    )


def test_a_locally_damaged_file_is_fetched_again(tmp_path: Path, fake_hub: Hub, checkpoint: str) -> None:
    fake_hub.breaks_always[WEIGHTS] = 0
    fetch_expecting_error(HubFolder(REPO), tmp_path / "made")
    damaged = tmp_path / "made.part" / "config.json"
    damaged.write_bytes(b"x" * damaged.stat().st_size)
    fake_hub.breaks_always.clear()

    assert has_same_contents(
        fetch(HubFolder(REPO), "checkpoint", tmp_path / "made", ignore), tmp_path / "repo", CHECKPOINT
    )
