"""Imports Gradio in two thirds of the time. Must be imported before anything else imports Gradio."""

import inspect
import sys
from typing import Any


def _import_without_stubs() -> None:
    """Import Gradio without its type stubs.

    At import, Gradio parses each component's source to write a .pyi file beside it, for editors. It skips a component for
    which `inspect.getfile` finds no source, as in a notebook (gradio/component_meta.py). The function is restored afterwards.
    """
    original = inspect.getfile

    def getfile(thing: Any) -> str:
        if isinstance(thing, type) and thing.__module__.startswith("gradio."):
            raise OSError("skipped")
        return original(thing)

    inspect.getfile = getfile  # type: ignore[assignment]  # narrower than what it replaces, for one import
    try:
        import gradio  # noqa: F401 - the import is the effect
    finally:
        inspect.getfile = original


if "gradio" not in sys.modules:
    _import_without_stubs()
