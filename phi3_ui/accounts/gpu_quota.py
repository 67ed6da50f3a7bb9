"""The token that identifies whose GPU quota is charged for an answer, on a ZeroGPU Space."""

from collections.abc import Mapping

TOKEN_HEADER = "x-ip-token"  # noqa: S105 (a header's name)
"""Hugging Face adds this header to visitors' requests; Gradio's page gets it from the embedding page."""

_MAX_LENGTH = 8192


def read_gpu_token(headers: Mapping[str, str]) -> str | None:
    """Return the `gpu_token` of a ChatRequest from a request's headers, with names in lower case; None if there is none."""
    token = headers.get(TOKEN_HEADER)
    return token if token and len(token) <= _MAX_LENGTH else None
