"""Options shared by the page's events."""

from typing import Any

NO_PROGRESS: dict[str, Any] = {"show_progress": "hidden", "show_progress_on": []}
"""No component shows the progress: a status tracker, even a hidden one, redraws at 60 Hz while its event runs, and forever
if it is removed meanwhile."""

QUIET: dict[str, Any] = {**NO_PROGRESS, "queue": False, "api_visibility": "private"}
"""A short handler that runs immediately, without a progress overlay. It cannot show notices: Gradio shows only those of queued events."""

NOTIFYING: dict[str, Any] = {**NO_PROGRESS, "concurrency_limit": None, "api_visibility": "private"}
"""A short handler that may show a notice."""

STREAMING: dict[str, Any] = {**NO_PROGRESS, "concurrency_limit": None, "api_visibility": "private"}
"""A generator that any number of pages run concurrently."""
