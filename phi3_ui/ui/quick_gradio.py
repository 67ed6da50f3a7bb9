"""Imports Gradio in half the time it takes by itself. To be imported before anything else imports Gradio."""

import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def _no_stubs() -> Iterator[None]:
    """While it is imported, Gradio parses each component's source to write a .pyi file beside it, for editors.

    It does not where `inspect.getfile` finds no source, as for components made in a notebook (gradio/component_meta.py).
    """
    found = inspect.getfile

    def none_of_gradio(thing: Any) -> str:
        if isinstance(thing, type) and thing.__module__.startswith("gradio."):
            raise OSError("not looked for")
        return found(thing)

    inspect.getfile = none_of_gradio  # type: ignore[assignment]
    try:
        yield
    finally:
        inspect.getfile = found


if "gradio" not in sys.modules:
    with _no_stubs():
        import gradio as gradio
