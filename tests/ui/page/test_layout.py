"""The page's configuration that Gradio sends to the browser."""

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any, cast

import gradio as gr
import pytest
from anyio.from_thread import start_blocking_portal

from phi3_ui.i18n.translate import BROWSER_TEXTS
from phi3_ui.settings import Settings
from phi3_ui.ui.page.layout import build_ui
from phi3_ui.ui.page.texts import I18N, _UsedTexts
from tests.ui.handlers.doubles import App


@pytest.fixture(scope="module")
def blocks() -> Iterator[gr.Blocks]:
    """The page of a Space."""
    services = cast(Any, App().services)
    services.settings = Settings.read({})
    services.evaluations = services.imports = SimpleNamespace()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SYSTEM", "spaces")
        patch.setenv("SPACE_ID", "someone/phi3-chat")
        with start_blocking_portal() as portal:  # Gradio's queue needs an event loop
            yield portal.call(build_ui, services)


def test_the_page_of_a_space_has_no_space_id_to_poll_its_status(blocks: gr.Blocks) -> None:
    assert blocks.get_config_file()["space_id"] is None


def test_the_page_contains_the_texts_of_its_components_and_no_others(blocks: gr.Blocks) -> None:
    components = json.dumps(blocks.get_config_file()["components"], default=str)
    used = set(re.findall(r'translation_metadata\W+key\W+([^"\\]+)', components))
    assert used >= {"chat", "comment", "comment.keep"}
    for language, texts in I18N.translations_dict.items():
        assert texts == {key: BROWSER_TEXTS[language][key] for key in texts}
        assert texts.keys() >= used, language  # other pages built in this process may use more
        assert "error.load_failed" not in texts


def test_a_page_is_built_while_another_is_sent() -> None:
    names = [f"text {number}" for number in range(2000)]
    texts = _UsedTexts({"en": dict.fromkeys(names, "")})

    def build() -> None:
        for name in names:
            texts(name)

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(build)
        while not future.done():
            assert len(texts.translations_dict["en"]) <= len(names)
        future.result()
    assert texts.translations_dict["en"].keys() == set(names)


def test_an_unknown_text_is_reported_when_the_page_is_built() -> None:
    with pytest.raises(KeyError, match="no_such_text"):
        I18N("no_such_text")
