"""The logged models as an OpenAI-compatible HTTP API, over the same services as the page."""
