"""What the page receives for a handler's values."""

from typing import Any

import gradio as gr
from anyio.from_thread import start_blocking_portal
from gradio.state_holder import SessionState

from phi3_ui.ui.page.streamed_blocks import StreamedBlocks

SKIP = {"__type__": "update"}


def postprocess(values: Any, create: type[gr.Blocks] = StreamedBlocks) -> list[Any]:
    """Return what Gradio sends for `values` of a handler with two components and a state as outputs; a dict's keys are positions."""

    async def process() -> list[Any]:
        with create() as blocks:
            outputs = [gr.HTML("old"), gr.Textbox("old"), gr.State("old")]
            blocks.load(lambda: None, None, outputs)
        (fn,) = blocks.fns.values()
        is_keyed = isinstance(values, dict) and values != SKIP
        shown = {outputs[index]: value for index, value in values.items()} if is_keyed else values
        sent: list[Any] = await blocks.postprocess_data(fn, shown, None)
        return sent

    with start_blocking_portal() as portal:  # a separate event loop: Playwright's runs in this thread
        return portal.call(process)


def test_a_skipped_output_stays_a_skip() -> None:
    assert postprocess([gr.skip(), "new", "new"]) == [SKIP, "new", None]
    assert postprocess({1: "new"}) == [SKIP, "new", None]
    assert postprocess(gr.skip()) == [SKIP, SKIP, None]
    assert postprocess([gr.skip(), gr.Textbox(visible=False), gr.skip()]) == [SKIP, {"visible": False, **SKIP}, None]


def test_gradio_still_turns_a_skip_of_an_html_component_into_an_update() -> None:
    """If this fails, StreamedBlocks.postprocess_data can be removed."""
    assert postprocess([gr.skip(), "new", "new"], gr.Blocks)[0] != SKIP


def list_kept_values(create: type[gr.Blocks] = StreamedBlocks) -> set[object]:
    """Return the values of a page's components that are kept after a call."""

    async def call() -> set[object]:
        with create() as blocks:
            inputs, outputs = [gr.Textbox("old")], [gr.HTML("old"), gr.Textbox("old")]
            blocks.load(lambda text: text, inputs, outputs)
        (fn,) = blocks.fns.values()
        state = SessionState(blocks)
        assert await blocks.preprocess_data(fn, ["sent"], state) == ["sent"]
        await blocks.postprocess_data(fn, ["drawn", gr.Textbox("updated")], state)
        configs = [state.config_values[component._id] for component in (*inputs, *outputs)]
        return {config["props"].get("value") for config in configs}

    with start_blocking_portal() as portal:
        return portal.call(call)


def test_values_of_a_call_are_not_kept() -> None:
    assert list_kept_values() == {None}


def test_gradio_still_keeps_the_values_of_a_call() -> None:
    """If this fails, StreamedBlocks need not free them."""
    assert list_kept_values(gr.Blocks) == {"sent", "drawn", "updated"}
