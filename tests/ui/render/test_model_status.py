"""The state of the selected model in the header."""

from typing import get_args

import pytest

from phi3_ui.chat.types import Batching, BatchingReason, CacheStats
from phi3_ui.i18n.translate import TEXTS
from phi3_ui.sources.model_source import OpenState
from phi3_ui.store.registry.cards import RegisteredVersion
from phi3_ui.ui.render.model_status import ModelStates, Selected, describe_status, render_cache
from tests.support.cards import ENTRY
from tests.support.html import ParsedPage


def test_status_is_loading_loaded_or_neither() -> None:
    assert describe_status("en", None)["label"] == "not loaded"
    assert describe_status("en", None, state=OpenState("loading", 0.0))["label"] == "loading … 0 s"
    assert describe_status("ro", None, state=OpenState("loading", 3.9))["label"] == "se încarcă … 3 s"
    loaded = describe_status("en", Selected(ENTRY), ModelStates(["m-1"]), OpenState("ready", streaming="stream"))
    assert (loaded["state"], loaded["label"]) == ("loaded", "loaded · streams natively")
    assert loaded["loaded"] == ["m-1"]


def test_chips_show_facts_about_the_model() -> None:
    version = RegisteredVersion("phi", "1", ("champion",))
    status = describe_status("en", Selected(ENTRY, version), ModelStates(speeds={ENTRY.model_id: 98.4, "m-2": 7.0}))

    assert status["engine"] == "ONNX"
    assert [chip["text"] for chip in status["chips"]] == ["v1 · champion", "98 tokens/s here"]
    assert status["speeds"] == {ENTRY.model_id: "98 tokens/s", "m-2": "7.0 tokens/s"}
    assert describe_status("en", Selected(ENTRY))["chips"] == []


def test_the_prompt_cache_is_described() -> None:
    fold = ParsedPage(render_cache("en", CacheStats(3_000_000_000, 1_100_000_000, 3, 12, 2)))

    assert fold.texts("summary") == ["Prompt cache 1.1 GB of 3.0 GB"]
    assert fold.texts("dd") == ["3", "12 of 14"]
    assert render_cache("en", None) == ""


@pytest.mark.parametrize("language", TEXTS)
@pytest.mark.parametrize("reason", get_args(BatchingReason))
def test_the_page_shows_whether_answers_are_batched_and_why_not(language: str, reason: BatchingReason) -> None:
    fold = ParsedPage(render_cache(language, None, Batching(reason, "its attention is another")))

    expected = {"en": ["Batched", "One at a time"], "ro": ["În lot", "Pe rând"]}[language][bool(reason)]
    assert fold.texts("summary")[0].endswith(f" {expected}")
    assert ("its attention is another" in fold.texts("p")[0]) is (reason in ("graph", "failed"))


def test_batching_is_shown_above_the_prompt_cache() -> None:
    page = ParsedPage(render_cache("en", CacheStats(3_000_000_000, 0, 0, 0, 0), Batching()))

    assert page.texts("summary") == ["Concurrent answers Batched", "Prompt cache 0 kB of 3.0 GB"]
    assert page.texts("p") == ["All answers advance together, one token per step."]
