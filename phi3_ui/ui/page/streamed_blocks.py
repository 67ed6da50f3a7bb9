"""Blocks whose streams lose no update."""

from typing import Any

import gradio as gr
from gradio.block_function import BlockFunction
from typing_extensions import override


class StreamedBlocks(gr.Blocks):
    """Blocks whose generators send each update whole.

    Gradio 6.31 sends how a value differs from the generator's last one, and the page makes the new value by editing the last
    one in place, perhaps before it has handled it: what an update sets is lost if another one follows at once.
    """

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


def _is_update(value: object) -> bool:
    return isinstance(value, dict) and value.get("__type__") == "update"
