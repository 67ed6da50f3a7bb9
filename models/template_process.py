"""Render a chat template in its own process, which is terminated if the template takes too much time or memory.

Limits on the operations of a template would be incomplete: loops, recursion, repetition, padding, and the text of a list that
contains itself many times can each happen within one native operation. The operating system's accounting is complete.
"""

import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from models.template_environment import RejectionError, TemplateError, TemplateLimitError, render_template

logger = logging.getLogger(__name__)

CPU_SECONDS = 0.5
"""CPU time for rendering; templates usually take milliseconds."""

MEMORY = 48 << 20
"""Bytes that rendering may take in addition to the interpreter and a multiple of the conversation's own size."""

_TIMES_INPUT = 24  # one character beyond the BMP makes every character of a text take 4 bytes, and templates copy texts
_SECONDS_PER_BYTE = 2e-7
_MAX_INPUT = 10 << 20  # bytes of input up to which the limits grow, since a chat may be huge
_DEADLINE = 20  # seconds, for a busy machine; also the limit if the system does not limit CPU time
_ROOT = Path(__file__).parents[1]
_KEPT_VARIABLES = ("PATH", "HOME", "LANG", "LC_ALL", "LC_TIME", "TZ", "LD_LIBRARY_PATH", "PYTHONHOME", "SYSTEMROOT")
_TOO_LONG = "it takes too long to render"
_TOO_BIG = "it takes too much memory to render"
_ERRORS = {error.__name__: error for error in (TemplateError, RejectionError, TemplateLimitError)}
_slots = threading.BoundedSemaphore(2)  # otherwise many concurrent renderings would add up


def render_in_child(template: str, variables: Mapping[str, Any], now: datetime) -> str:
    """Render like `render_template`, within CPU_SECONDS and MEMORY. `variables` must be JSON values.

    Memory is limited on Linux only, CPU time on POSIX systems; elsewhere a rendering ends after 20 seconds.

    Raises:
        TemplateError: As `render_template`; TemplateLimitError if it exceeds the limits.
    """
    request = json.dumps({"template": template, "variables": variables, "now": now.isoformat()}).encode()
    path = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")]))
    kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    try:
        with _slots:
            child = subprocess.run(
                [sys.executable, "-P", "-m", "models.template_process"],
                input=request,
                capture_output=True,
                timeout=_DEADLINE,
                env={**kept, "PYTHONPATH": path},
                check=False,
            )
    except subprocess.TimeoutExpired as error:
        raise TemplateLimitError(_TOO_LONG) from error
    if child.returncode:
        if os.name == "posix" and -child.returncode == _get_cpu_signal():
            raise TemplateLimitError(_TOO_LONG)
        logger.error(
            "Rendering a template ended with %s: %s", child.returncode, child.stderr[-2000:].decode(errors="replace")
        )
        raise TemplateLimitError("rendering it ended unexpectedly")
    reply = json.loads(child.stdout)
    if "error" in reply:
        raise _ERRORS[reply["error"]](reply["message"])
    return str(reply["text"])


def _get_cpu_signal() -> int:
    import signal

    return signal.SIGPROF


def _limit_process(input_size: int) -> None:
    """Limit this process irrevocably."""
    if os.name != "posix":
        return
    import resource
    import signal

    input_size = min(input_size, _MAX_INPUT)
    if sys.platform == "linux":  # elsewhere, address space is meaningless or not limited
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        size = pages * resource.getpagesize() + MEMORY + _TIMES_INPUT * input_size
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        size = size if hard == resource.RLIM_INFINITY else min(size, hard)
        resource.setrlimit(resource.RLIMIT_AS, (size, size))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS + _SECONDS_PER_BYTE * input_size)  # also ends native code


def _render(request: bytes) -> bytes:
    """Return the reply to a request: JSON with `text`, or with `error` and `message`."""
    try:
        content = json.loads(request)
        text = render_template(content["template"], content["variables"], datetime.fromisoformat(content["now"]))
        return json.dumps({"text": text}).encode()
    except TemplateError as error:
        return json.dumps({"error": type(error).__name__, "message": str(error)}).encode()
    except MemoryError:
        return json.dumps({"error": TemplateLimitError.__name__, "message": _TOO_BIG}).encode()


def _main() -> None:
    request = sys.stdin.buffer.read()
    _limit_process(len(request))
    sys.stdout.buffer.write(_render(request))


if __name__ == "__main__":
    _main()
