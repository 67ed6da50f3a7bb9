"""The route that receives a file of chats. Gradio's own uploads are disabled: they have paths, which anyone could name."""

import asyncio
from collections.abc import Callable

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from phi3_ui.accounts.address import normalize_address
from phi3_ui.errors import UserError
from phi3_ui.i18n.translate import tr_error
from phi3_ui.ui.front_page import find_language
from phi3_ui.ui.imports import ImportJob, Imports
from phi3_ui.ui.open_pages import OpenPages

_STALL_SECONDS = 60.0  # without a byte, after which an upload is aborted

_STATUS = {"page_gone": 403, "import_running": 409, "imports_busy": 429, "import_stalled": 408}


class ImportRoute:
    """A POST with the file as its body, and the secret of the sending tab in the header `X-Phi3-Tab`.

    The import belongs to that page's user. Responds with 202, or with an error and a sentence as `detail`. Another site's
    page cannot set the header.
    """

    def __init__(self, pages: OpenPages, imports: Imports, find_user: Callable[[Request], str | None] | None) -> None:
        """`find_user` returns the logged-in user; None: no login is required."""
        self._pages = pages
        self._imports = imports
        self._find_user = find_user

    async def receive_file(self, request: Request) -> Response:
        """Handle one request."""
        try:
            await self._start_import(request)
        except UserError as error:
            sentence = tr_error(find_language(request), error)
            return JSONResponse({"detail": sentence}, _STATUS.get(error.code, 400), {"Connection": "close"})
        except ClientDisconnect:
            return Response(status_code=400)
        return JSONResponse({}, 202)

    async def _start_import(self, request: Request) -> None:
        login = self._find_user(request) if self._find_user else None
        session = self._pages.find_session(request.headers.get("x-phi3-tab", ""), login)
        if session is None:
            raise UserError("page_gone")
        session.set_address(normalize_address(request.client.host if request.client else ""))
        with self._imports.receive(session.person) as job:
            await _write_body(request, job)


async def _write_body(request: Request, job: ImportJob) -> None:
    chunks = request.stream()
    while True:
        try:
            async with asyncio.timeout(_STALL_SECONDS):
                chunk = await anext(chunks, None)
        except TimeoutError as error:
            raise UserError("import_stalled") from error
        if chunk is None:
            return
        await run_in_threadpool(job.file.write, chunk)
