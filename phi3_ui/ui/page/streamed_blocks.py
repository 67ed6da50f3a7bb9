"""Blocks whose streams lose no update, and whose skipped outputs cost nothing."""

from collections.abc import Iterable
from typing import Any

import gradio as gr
from fastapi import HTTPException
from gradio.block_function import BlockFunction
from gradio.blocks import Block, convert_component_dict_to_list
from gradio.components.base import _Keywords
from gradio.state_holder import SessionState
from typing_extensions import override

from phi3_ui.ui.invalid_calls import note_invalid_call


class StreamedBlocks(gr.Blocks):
    """Blocks whose generators send updates complete, not as diffs, and skips as skips.

    Gradio 6.31 sends the diff from the generator's last value, and the page applies it to the last value in place, perhaps
    before it has handled that value: an update is lost if another one follows immediately.

    Gradio also creates a new component for each skip, and turns the skip of an HTML component into an update, for which the
    page copies and compares the whole value: for a long chat, several times a second while an answer streams.
    """

    @override
    async def preprocess_data(
        self,
        block_fn: BlockFunction,
        inputs: list[Any],
        state: SessionState | None,
        explicit_call: bool = False,
    ) -> list[Any]:
        """Convert the values of a call into a handler's arguments."""
        try:
            values: list[Any] = await super().preprocess_data(block_fn, inputs, state, explicit_call)
        except Exception as error:
            note_invalid_call(error)
            raise
        finally:
            _forget_values(block_fn.inputs, state)
        return values

    @override
    async def postprocess_data(
        self, block_fn: BlockFunction, predictions: list[Any] | dict[Any, Any], state: SessionState | None
    ) -> list[Any]:
        """Convert a handler's values as Gradio does, but leave skips unchanged."""
        try:
            return await self._postprocess(block_fn, predictions, state)
        finally:
            _forget_values(block_fn.outputs, state)

    async def _postprocess(
        self, block_fn: BlockFunction, predictions: list[Any] | dict[Any, Any], state: SessionState | None
    ) -> list[Any]:
        outputs = list(block_fn.outputs)
        if len(outputs) < 2:
            return await super().postprocess_data(block_fn, predictions, state)
        if predictions == gr.skip():
            predictions = [gr.skip()] * len(outputs)
        values = list(
            convert_component_dict_to_list(outputs, predictions) if isinstance(predictions, dict) else predictions
        )
        skips = [at for at, value in enumerate(values) if isinstance(value, dict) and value == gr.skip()]
        for at in skips:
            values[at] = _Keywords.FINISHED_ITERATING  # Gradio does not touch such an output
        processed: list[Any] = await super().postprocess_data(block_fn, values, state)
        for at in skips:
            if not outputs[at].stateful:
                processed[at] = gr.skip()
        return processed

    @override
    def handle_streaming_diffs(
        self,
        block_fn: BlockFunction,
        data: list[Any],
        session_hash: str | None,
        run: str | None,
        final: bool,
        simple_format: bool = False,
    ) -> list[Any]:
        """Return the diffs that Gradio sends, with `replace` for updates."""
        sent = list(self.pending_diff_streams.get(session_hash, {}).get(run, []))
        values = list(data)
        diffs: list[Any] = super().handle_streaming_diffs(block_fn, data, session_hash, run, final, simple_format)
        if final or simple_format:
            return diffs
        for at, (old, new) in enumerate(zip(sent, values, strict=False)):  # nothing is sent before the first values
            if _is_update(old) or _is_update(new):
                diffs[at] = [["replace", [], new]]
        return diffs


class KnownFunctions(dict[int, BlockFunction]):
    """The page's handlers by index; a client may request any index.

    An unknown one is a 404, not a server error; so is one whose event is handled only by a script in the browser.
    """

    def __getitem__(self, index: int) -> BlockFunction:
        function = super().__getitem__(index)
        return function if function.fn else self.__missing__(index)

    def __missing__(self, index: int) -> BlockFunction:
        raise HTTPException(status_code=404, detail="There is no such function.")


def _forget_values(components: Iterable[Block], state: SessionState | None) -> None:
    """Free the values of a call: Gradio keeps each page's last ones for deep links, which the app does not support."""
    kept = state.config_values if state else {}
    for component in components:
        kept.get(component._id, {}).get("props", {}).pop("value", None)


def _is_update(value: object) -> bool:
    return isinstance(value, dict) and value.get("__type__") == "update"
