"""Whose quota of GPU time an answer counts for, on a ZeroGPU Space."""

from collections.abc import Mapping

TOKEN_HEADER = "x-ip-token"  # noqa: S105 (a header's name)
"""Hugging Face sends it along with what its visitors ask; Gradio's page gets it from the page around it."""

_MAX_LENGTH = 8192


def read_gpu_token(headers: Mapping[str, str]) -> str | None:
    """The `gpu_token` of a ChatRequest, from a request's headers, whose names are in lower case; None: they have none."""
    token = headers.get(TOKEN_HEADER)
    return token if token and len(token) <= _MAX_LENGTH else None
