"""What is asked of the hub, through its own client: a repository's files, and the bytes that are still missing of one.

The client's own downloads begin anew in each process, so files are asked for here by range. Every failure is a
StageError with its cure.
"""

import os
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
from huggingface_hub.utils import build_hf_headers, hf_raise_for_status  # type: ignore[attr-defined]

from models.hub_files import RemoteFile
from models.presets import HubFolder
from models.stage import StageError

_WAITS = (0.5, 1, 2, 4, 8)  # seconds before each new try, while no byte comes
_PASSING = {408, 429, 500, 502, 503, 504}


def listing(source: HubFolder) -> tuple[str, list[RemoteFile]]:
    """The commit that the revision names at this moment, and all files of the repository at it."""
    with _translate_errors(source, began=False):
        info = HfApi(endpoint=_endpoint()).model_info(
            source.repo, revision=source.revision, files_metadata=True, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT
        )
    files = []
    for entry in info.siblings or []:
        if entry.size is None:
            raise StageError("hub_interrupted", repo=source.repo, detail=f"no size is given for {entry.rfilename}")
        held_by_git = "" if entry.lfs else entry.blob_id or ""
        files.append(RemoteFile(entry.rfilename, entry.size, entry.lfs.sha256 if entry.lfs else "", held_by_git))
    return str(info.sha), files


def download(source: HubFolder, commit: str, file: RemoteFile, path: Path, tell: Callable[[int], None]) -> None:
    """Append to `path` what it lacks of `file`; `tell` is called with the bytes it then holds.

    A connection that breaks is taken up again where it broke, until several tries in a row bring nothing.
    """
    url = hf_hub_url(source.repo, file.path, revision=commit, endpoint=_endpoint())
    path.touch()
    failures = 0
    with _translate_errors(source, began=True):
        while (have := path.stat().st_size) < file.size:
            try:
                _append(url, path, tell)
            except (httpx.TransportError, HfHubHTTPError) as error:
                failures = 1 if path.stat().st_size > have else failures + 1
                if failures > len(_WAITS) or not _may_pass(error):
                    raise
                time.sleep(_WAITS[failures - 1])


def _append(url: str, path: Path, tell: Callable[[int], None]) -> None:
    have = path.stat().st_size
    # A range of a compressed answer would be a range of something else.
    headers = build_hf_headers(headers={"Accept-Encoding": "identity"})
    if have:
        headers["Range"] = f"bytes={have}-"
    # On the way to another host, where large files are, the client leaves the token behind.
    with get_session().stream("GET", url, headers=headers, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT) as response:
        hf_raise_for_status(response)
        with path.open("ab" if response.status_code == httpx.codes.PARTIAL_CONTENT else "wb") as out:
            for piece in response.iter_bytes():
                out.write(piece)
                tell(out.tell())
    if path.stat().st_size == have:
        raise httpx.RemoteProtocolError("the answer was empty")


def _endpoint() -> str:
    return (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")


def _may_pass(error: httpx.TransportError | HfHubHTTPError) -> bool:
    return isinstance(error, httpx.TransportError) or error.response.status_code in _PASSING


@contextmanager
def _translate_errors(source: HubFolder, began: bool) -> Iterator[None]:
    """Turn the client's errors into ours; `began` says that the hub has answered before."""
    try:
        yield
    except HfHubHTTPError as error:
        raise _refusal(error, source, began) from error
    except HFValidationError as error:
        raise StageError("hub_not_found", repo=source.repo) from error
    except OfflineModeIsEnabled as error:
        raise StageError("hub_disabled", repo=source.repo) from error
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:  # ValueError: an answer that is no JSON
        detail = str(error).strip().rstrip(".") or type(error).__name__
        if began:
            raise StageError("hub_interrupted", repo=source.repo, detail=detail) from error
        raise StageError("hub_offline", repo=source.repo, endpoint=_endpoint(), detail=detail) from error


def _refusal(error: HfHubHTTPError, source: HubFolder, began: bool) -> StageError:
    status, repo = error.response.status_code, source.repo
    if isinstance(error, GatedRepoError):
        return StageError("hub_gated", repo=repo)
    if status == httpx.codes.UNAUTHORIZED and "authorization" in error.response.request.headers:
        return StageError("hub_bad_token")
    if isinstance(error, RevisionNotFoundError):
        return StageError("hub_no_revision", repo=repo, revision=source.revision)
    if isinstance(error, RepositoryNotFoundError) or (status == httpx.codes.NOT_FOUND and not began):
        return StageError("hub_not_found", repo=repo)
    if status == httpx.codes.FORBIDDEN:
        return StageError("hub_forbidden", repo=repo)
    return StageError("hub_interrupted", repo=repo, detail=f"HTTP {status}")
