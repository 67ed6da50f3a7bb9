"""Blocks whose streams lose no update, and in which an output that is skipped costs nothing."""

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
    """Blocks whose generators send each update whole, and skips as skips.

    Gradio 6.31 sends how a value differs from the generator's last one, and the page makes the new value by editing the last
    one in place, perhaps before it has handled it: what an update sets is lost if another one follows at once.

    It also creates a component anew for each skip, and turns the skip of an HTML component into an update, for which the
    page copies and compares the component's whole value: that of a long chat several times a second, while an answer streams.
    """

    @override
    async def preprocess_data(
        self,
        block_fn: BlockFunction,
        inputs: list[Any],
        state: SessionState | None,
        explicit_call: bool = False,
    ) -> list[Any]:
        """What a handler gets of the values of a call."""
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
        """What Gradio makes of a handler's values, with each skip as it is."""
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
            values[at] = _Keywords.FINISHED_ITERATING  # Gradio leaves such an output alone
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
        """The differences that Gradio sends, with `replace` for updates."""
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
    """The handlers of a page by their index, of which a program may ask for any.

    An unknown one is 404, and no error of the server, and so is one of an event that a script of the page handles alone.
    """

    def __getitem__(self, index: int) -> BlockFunction:
        function = super().__getitem__(index)
        return function if function.fn else self.__missing__(index)

    def __missing__(self, index: int) -> BlockFunction:
        raise HTTPException(status_code=404, detail="There is no such function.")


def _forget_values(components: Iterable[Block], state: SessionState | None) -> None:
    """Free the values of a call: Gradio keeps the last ones of each page for deep links, which the app does not have."""
    kept = state.config_values if state else {}
    for component in components:
        kept.get(component._id, {}).get("props", {}).pop("value", None)


def _is_update(value: object) -> bool:
    return isinstance(value, dict) and value.get("__type__") == "update"
