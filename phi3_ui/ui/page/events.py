"""Options that the page's events share."""

from typing import Any

NO_PROGRESS: dict[str, Any] = {"show_progress": "hidden", "show_progress_on": []}
"""No component shows the progress: a status tracker, even a hidden one, redraws at 60 Hz while its event runs, and for ever
if it is removed meanwhile."""

QUIET: dict[str, Any] = {**NO_PROGRESS, "queue": False, "api_visibility": "private"}
"""A short handler: it runs at once, without a progress overlay. It can show no notice: Gradio shows those of queued events alone."""

NOTIFYING: dict[str, Any] = {**NO_PROGRESS, "concurrency_limit": None, "api_visibility": "private"}
"""A short handler that may show a notice."""

STREAMING: dict[str, Any] = {**NO_PROGRESS, "concurrency_limit": None, "api_visibility": "private"}
"""A generator: any number of pages run it at the same time."""
