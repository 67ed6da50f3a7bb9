"""Options that the page's events share."""

from typing import Any

QUIET: dict[str, Any] = {"show_progress": "hidden", "queue": False, "api_visibility": "private"}
"""A short handler: it runs at once, without a progress overlay."""

STREAMING: dict[str, Any] = {"show_progress": "hidden", "concurrency_limit": None, "api_visibility": "private"}
"""A generator: any number of pages run it at the same time."""
