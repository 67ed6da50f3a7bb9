"""Requests to the Hugging Face hub through its own client: list a repository, and download a file with resume.

The client's own downloads start over in each process, so files are requested here by range. Every failure is a StageError with a
cure.
"""

import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from huggingface_hub import HfApi, constants, get_session, hf_hub_url
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoSibling
from huggingface_hub.utils import build_hf_headers, hf_raise_for_status  # type: ignore[attr-defined]  # lazy

from models.hub_files import RemoteFile
from models.presets import HubFolder
from models.stage import StageError

# Seconds of backoff before each retry. Not tenacity, because the count of failures is reset whenever bytes have arrived.
_BACKOFF = (0.5, 1, 2, 4, 8)
_SHA1, _SHA256 = "[0-9a-f]{40}", "[0-9a-f]{64}"
_TRANSIENT = {408, 429, 500, 502, 503, 504}


def list_files(source: HubFolder) -> tuple[str, list[RemoteFile]]:
    """Return the current commit of the revision, and all files of the repository at that commit, with their hashes.

    Raises StageError: the codes that begin with hub_.
    """
    with _translate_errors(source, has_answered=False):
        info = HfApi(endpoint=_get_endpoint()).model_info(
            source.repo, revision=source.revision, files_metadata=True, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT
        )
    if re.fullmatch(_SHA1, source.revision) and info.sha != source.revision:
        raise StageError("hub_interrupted", repo=source.repo, detail=f"the answer is about {info.sha}")
    return str(info.sha), [_read_entry(source, entry) for entry in info.siblings or []]


def _read_entry(source: HubFolder, entry: RepoSibling) -> RemoteFile:
    sha256 = entry.lfs.sha256 if entry.lfs else ""
    git_sha1 = "" if entry.lfs else entry.blob_id or ""
    is_verifiable = re.fullmatch(_SHA256, sha256) or re.fullmatch(_SHA1, git_sha1)
    if entry.size is None or not is_verifiable:
        detail = f"no {'size' if entry.size is None else 'hash'} is given for {entry.rfilename}"
        raise StageError("hub_interrupted", repo=source.repo, detail=detail)
    return RemoteFile(entry.rfilename, entry.size, sha256, git_sha1)


def download(source: HubFolder, commit: str, file: RemoteFile, path: Path, on_progress: Callable[[int], None]) -> None:
    """Append the missing bytes of `file` to `path`; `on_progress` is called with its current size.

    Broken connections are resumed until several consecutive retries bring no bytes. Raises StageError: the codes that begin with
    hub_.
    """
    url = hf_hub_url(source.repo, file.path, revision=commit, endpoint=_get_endpoint())
    path.touch()
    failures = 0
    with _translate_errors(source, has_answered=True):
        while (have := path.stat().st_size) < file.size:
            try:
                _append(url, path, on_progress)
            except (httpx.TransportError, HfHubHTTPError) as error:
                failures = 1 if path.stat().st_size > have else failures + 1
                if failures > len(_BACKOFF) or not _is_transient(error):
                    raise
                time.sleep(_BACKOFF[failures - 1])


def _append(url: str, path: Path, on_progress: Callable[[int], None]) -> None:
    have = path.stat().st_size
    # With compression, a range of the response would not be a range of the file.
    headers = build_hf_headers(headers={"Accept-Encoding": "identity"})
    if have:
        headers["Range"] = f"bytes={have}-"
    # The client drops the token when it is redirected to another host, where large files are stored.
    with get_session().stream("GET", url, headers=headers, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT) as response:
        hf_raise_for_status(response)
        with path.open("ab" if response.status_code == httpx.codes.PARTIAL_CONTENT else "wb") as out:
            for piece in response.iter_bytes():
                out.write(piece)
                on_progress(out.tell())
    if path.stat().st_size == have:
        raise httpx.RemoteProtocolError("the response was empty")


def _get_endpoint() -> str:
    return (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")


def _is_transient(error: httpx.TransportError | HfHubHTTPError) -> bool:
    return isinstance(error, httpx.TransportError) or error.response.status_code in _TRANSIENT


@contextmanager
def _translate_errors(source: HubFolder, has_answered: bool) -> Iterator[None]:
    """Raise the client's errors as StageErrors; `has_answered`: the hub has answered an earlier request."""
    try:
        yield
    except HfHubHTTPError as error:
        raise _build_refusal(error, source, has_answered) from error
    except HFValidationError as error:
        raise StageError("hub_not_found", repo=source.repo) from error
    except OfflineModeIsEnabled as error:
        raise StageError("hub_disabled", repo=source.repo) from error
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:  # ValueError: a response that is not JSON
        detail = str(error).strip().rstrip(".") or type(error).__name__
        if has_answered:
            raise StageError("hub_interrupted", repo=source.repo, detail=detail) from error
        raise StageError("hub_offline", repo=source.repo, endpoint=_get_endpoint(), detail=detail) from error


def _build_refusal(error: HfHubHTTPError, source: HubFolder, has_answered: bool) -> StageError:
    status, repo = error.response.status_code, source.repo
    if isinstance(error, GatedRepoError):
        return StageError("hub_gated", repo=repo)
    if status == httpx.codes.UNAUTHORIZED and "authorization" in error.response.request.headers:
        return StageError("hub_bad_token")
    if isinstance(error, RevisionNotFoundError):
        code = "hub_no_commit" if re.fullmatch(_SHA1, source.revision) else "hub_no_revision"
        return StageError(code, repo=repo, revision=source.revision)
    if isinstance(error, RepositoryNotFoundError) or (status == httpx.codes.NOT_FOUND and not has_answered):
        return StageError("hub_not_found", repo=repo)
    if status == httpx.codes.FORBIDDEN:
        return StageError("hub_forbidden", repo=repo)
    return StageError("hub_interrupted", repo=repo, detail=f"HTTP {status}")
