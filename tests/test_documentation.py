"""README snippets run, and the documentation refers only to files, links and make targets that exist."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from phi3_ui.paths import ROOT
from tests.conftest import Demo
from tests.support.env import environment

_PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "bench" / "README.md"])
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_README = (ROOT / "README.md").read_text(encoding="utf-8")
_SNIPPETS = [code for language, code in _FENCE.findall(_README) if language == "python"]


def _name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize(
    ("snippet", "expected"), [*zip(_SNIPPETS, ["total_tokens", "Madrid"], strict=True)], ids=["pipeline", "onnx"]
)
def test_readme_snippets_run(snippet: str, expected: str, demo: Demo, tmp_path: Path) -> None:
    (tmp_path / "data").symlink_to(demo.settings.home)
    command = [sys.executable, "-c", snippet]
    run = subprocess.run(
        command, cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True, encoding="utf-8"
    )

    assert run.returncode == 0, run.stderr
    assert expected in run.stdout  # the pipeline samples, so its text varies


def test_the_readme_has_snippets_for_both_models() -> None:
    assert len(_SNIPPETS) == 2


@pytest.mark.parametrize("page", _PAGES, ids=_name)
def test_links_between_files_resolve(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = [link.split("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text)]
    local = [link for link in links if link and "://" not in link]

    assert [link for link in local if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", _PAGES, ids=_name)
def test_named_files_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    names = set(re.findall(r"`((?:phi3_ui|models|tests|bench|examples|docs)/[\w./-]+)`", text))

    assert sorted(name for name in names if not (ROOT / name).exists()) == []


@pytest.mark.parametrize("page", _PAGES, ids=_name)
def test_named_make_targets_exist(page: Path) -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    text = page.read_text(encoding="utf-8")
    named = {*re.findall(r"`make ([\w-]+)[^`]*`", text), *re.findall(r"^make ([\w-]+)", text, re.MULTILINE)}

    assert named <= targets
