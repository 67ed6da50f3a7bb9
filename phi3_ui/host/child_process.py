"""Child processes that end when this one does, however it ends.

`spawn` runs a module as `python -m phi3_ui.host.child_process MODULE …`. The child ties itself to its parent twice: by the
kernel where that can be had (Linux), even if native code never gives the interpreter back; and by its standard
input, whose end means that the parent is gone.
"""

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
from phi3_ui.paths import ROOT

_PR_SET_PDEATHSIG = 1


def spawn(
    module: str, arguments: Sequence[str], log: IO[bytes], reads_stdin: bool = False, online: bool = False
) -> subprocess.Popen[str]:
    """Start `module` as a child; its stdin and stdout are text pipes, its stderr goes to `log`.

    Call it from a thread that lives as long as the child: on Linux the child is killed when that thread ends.
    A module that reads its stdin must itself exit at its end (`reads_stdin`); for others it is watched here.
    Only one that is `online` may ask the hub: a logged model is whole, and loading it asks nobody.
    """
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    offline = {} if online else {"HF_HUB_OFFLINE": "1"}
    watch = "own" if reads_stdin else "watch"
    return subprocess.Popen(
        [sys.executable, "-m", "phi3_ui.host.child_process", watch, str(os.getpid()), module, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
        encoding="utf-8",
        env={**offline, **os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"},
        # Ctrl-C in the terminal is for the app, which ends its children itself.
        start_new_session=True,
    )


def _tie(parent: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)


def _exit_at_end_of_stdin() -> None:
    while os.read(0, 4096):
        pass
    os._exit(1)


def _main() -> None:
    watch, parent, module, *arguments = sys.argv[1:]
    _tie(int(parent))
    disable_telemetry()
    if watch == "watch":
        threading.Thread(target=_exit_at_end_of_stdin, daemon=True).start()
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _main()
