"""Child processes that never outlive this one, however it ends.

`spawn` runs a module as `python -m phi3_ui.host.child_process MODULE …`. Two things end the child with its parent: on Linux
the kernel kills it, even if native code never returns to the interpreter; and its standard input reaches end of file.
"""

import contextlib
import ctypes
import os
import runpy
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import IO

from models import disable_telemetry
from phi3_ui.host.sandbox import confine
from phi3_ui.host.sandbox_policy import SandboxPolicy, load_policy
from phi3_ui.paths import ROOT

_PR_SET_PDEATHSIG = 1
_SECRET_VARIABLES = {
    "PHI3_UI_API_KEYS",
    "PHI3_UI_JUDGE_KEY",
    "PHI3_UI_LOGINS",
    "PHI3_UI_REMOTE_SERVERS",
    "OAUTH_CLIENT_SECRET",
}
"""Variables that hold secrets of the app, which no child needs."""


def spawn(  # noqa: PLR0913  # each is a property of the process
    module: str,
    arguments: Sequence[str],
    log: IO[bytes],
    reads_stdin: bool = False,
    *,
    online: bool = False,
    policy: SandboxPolicy | None = None,
) -> subprocess.Popen[str]:
    """Start `module` as a child process; its stdin and stdout are text pipes, its stderr goes to `log`.

    Call this from a thread that lives as long as the child: on Linux the child is killed when that thread ends.
    A module that reads its stdin (`reads_stdin`) must exit at end of file; otherwise a thread of the child does so.
    Only an `online` child may contact the Hugging Face Hub. With a `policy`, the child is confined before it runs `module`
    and gets only the policy's environment; without one, it inherits the working folder and the environment, except for
    the app's own secrets.
    """
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    python = {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
    offline = {} if online else {"HF_HUB_OFFLINE": "1"}
    inherited = {name: value for name, value in os.environ.items() if name not in _SECRET_VARIABLES}
    stdin_mode = "read" if reads_stdin else "watch"
    file = str(policy.file) if policy else ""
    own = [sys.executable, "-m", "phi3_ui.host.child_process", stdin_mode, str(os.getpid()), file]
    return subprocess.Popen(  # noqa: S603 (our own module, no shell)
        [*own, module, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
        encoding="utf-8",
        cwd=policy.work if policy else None,
        env=policy.environment if policy else {**offline, **inherited, **python},
        # Ctrl-C in the terminal goes to the app only, which ends its children itself.
        start_new_session=True,
    )


def kill_group(process: subprocess.Popen[str]) -> None:
    """Kill a child that has not been reaped, and the processes that it started."""
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError, PermissionError):  # the group is empty
            os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
    else:
        process.kill()


CAN_AWAIT_EXIT = hasattr(os, "waitid")
"""Whether this system supports `await_exit`."""


def await_exit(process: subprocess.Popen[str]) -> None:
    """Wait for a child's exit without reaping it, so that its id is not reused. Does nothing unless CAN_AWAIT_EXIT."""
    if CAN_AWAIT_EXIT:
        with contextlib.suppress(ChildProcessError):  # another part of the program has reaped it
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)


def _die_with_parent(parent: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # the parent ended before the call
            os._exit(1)


def _exit_at_end_of_stdin() -> None:
    while os.read(0, 4096):
        pass
    os._exit(1)


def _main() -> None:
    stdin_mode, parent, policy_file, module, *arguments = sys.argv[1:]
    _die_with_parent(int(parent))
    disable_telemetry()
    if policy_file:
        confine(load_policy(policy_file))
    if stdin_mode == "watch":
        threading.Thread(target=_exit_at_end_of_stdin, daemon=True).start()
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _main()
