"""Attached files in the browser: read as text, joined to the question and split from it again; and which preset is chosen."""

import json
import random
import subprocess
from pathlib import Path
from typing import Any

import deno
import pytest

from phi3_ui.chat.presets import CONTROL_DEFAULTS, PARAM_PRESETS
from phi3_ui.ui.page.presets import build_settings_table

_NAMES = ["notes.md", "a b.csv", "no extension", "x.PY", "тест.txt", "File: y.md"]
_PIECES = ["```", "````py\n", "\n", "\n\n", "File: b.md\n```\n", "text", "é\u2028", "`", " ", "~~~"]
_FILES = [
    ("ă and 文".encode(), "ă and 文"),
    (b"\xef\xbb\xbfwith a mark\r\nline", "with a mark\nline"),
    ("in UTF-16".encode("utf-16"), "in UTF-16"),
    (b"", ""),
    (b"\x89PNG\r\n\x1a\n\x00", {"refused": "attach.not_text"}),
    (b"\xff\xfe\x00", {"refused": "attach.not_text"}),
    ("Latin 1: é".encode("latin-1"), {"refused": "attach.not_text"}),
    (b"x" * 1_000_001, {"refused": "attach.too_large"}),
]
_PRESETS = {preset.name: {**CONTROL_DEFAULTS, **preset.values} for preset in PARAM_PRESETS}
_SETTINGS = [
    *_PRESETS.values(),
    {**_PRESETS["creative"], "top_k": None},
    {**CONTROL_DEFAULTS, "seed": None, "stop": "a"},
]


def _questions() -> list[dict[str, Any]]:
    rng = random.Random(4)

    def draw_text(max_pieces: int) -> str:
        return "".join(rng.choices(_PIECES, k=rng.randint(0, max_pieces)))

    return [
        {
            "files": [{"name": rng.choice(_NAMES), "text": draw_text(8)} for _ in range(rng.randint(1, 3))],
            "typed": f"What is this? {draw_text(4)}",
        }
        for _ in range(200)
    ]


@pytest.fixture(scope="module")
def cases() -> dict[str, Any]:
    return {
        "questions": _questions(),
        "typed": ["Hello", "File: a.md\nno fence", "File: a.md\n```\nnever closed", "", "x\nFile: a.md\n```\n```"],
        "files": [list(content) for content, _ in _FILES],
        "table": build_settings_table(),
        "settings": _SETTINGS,
    }


@pytest.fixture(scope="module")
def result(cases: dict[str, Any]) -> dict[str, Any]:
    command = [deno.find_deno_bin(), "run", "--no-config", str(Path(__file__).with_name("attached_files.js"))]
    done = subprocess.run(command, check=True, capture_output=True, encoding="utf-8", input=json.dumps(cases))
    results: dict[str, Any] = json.loads(done.stdout)
    return results


def test_files_and_text_are_recovered_from_the_question(cases: dict[str, Any], result: dict[str, Any]) -> None:
    for case, actual in zip(cases["questions"], result["questions"], strict=True):
        files = actual["split"]["files"]
        assert [file["name"] for file in files] == [file["name"] for file in case["files"]]
        # A line break is added before the closing fence if the file ends without one.
        assert [file["text"].removesuffix("\n") for file in files] == [
            file["text"].removesuffix("\n") for file in case["files"]
        ]
        assert actual["split"]["rest"] == case["typed"]
        assert actual["again"] == actual["text"]


def test_a_question_without_files_is_not_split(cases: dict[str, Any], result: dict[str, Any]) -> None:
    assert result["typed"] == [{"files": [], "rest": text} for text in cases["typed"]]


def test_text_is_read_and_binary_files_are_refused(result: dict[str, Any]) -> None:
    assert result["read"] == [expected for _, expected in _FILES]


def test_presets_and_changed_settings_are_recognised(result: dict[str, Any]) -> None:
    names = [name for name, _ in result["settings"]]
    assert names == [*_PRESETS, "custom", "balanced"]
    changed = dict(result["settings"][:3])
    assert changed["balanced"] == []
    assert changed["creative"] == ["temperature", "top_k", "presence_penalty"]
    assert result["settings"][-1][1] == ["stop"]
