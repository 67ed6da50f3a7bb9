"""Tests for `prompt-set` on a store without models."""

from pathlib import Path

from tests.support.build_cache import create_store
from tests.support.command_line import RunCommand


def test_a_prompt_set_is_created_extended_and_shown(tmp_path: Path, run_command: RunCommand) -> None:
    create_store(tmp_path)
    first, second, invalid = tmp_path / "first.csv", tmp_path / "second.txt", tmp_path / "bad.jsonl"
    first.write_text("prompt,expected_response\nFrance?,Paris\n", encoding="utf-8")
    second.write_text("Spain?\n", encoding="utf-8")
    invalid.write_text('{"prompt": 1}\n', encoding="utf-8")

    created = run_command(tmp_path, "prompt-set", "create", "capitals", first)
    added = run_command(tmp_path, "prompt-set", "add", "capitals", second)
    rejected = run_command(tmp_path, "prompt-set", "add", "capitals", invalid)
    shown = run_command(tmp_path, "prompt-set", "show", "capitals")
    first_version = run_command(tmp_path, "prompt-set", "show", "capitals/1", "--json").json()

    assert (created.stdout, added.stdout) == ("capitals/1\n", "capitals/2\n")
    assert (rejected.returncode, "has no question" in rejected.stderr) == (1, True)
    assert "* version 2" in shown.stdout
    assert "France? → expected_response: Paris" in shown.stdout
    assert [record["expectations"] for record in first_version["records"]] == [{"expected_response": "Paris"}]
    assert run_command(tmp_path, "prompt-set", "list").stdout == "capitals  version 2, 2 requests\n"
