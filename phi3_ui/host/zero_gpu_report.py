"""Tells the host of a ZeroGPU Space that this Space uses the GPUs that it lends. Otherwise the host takes it for broken.

The package `spaces` does so when `gr.Blocks.launch` is called, which this app does not call: so in a process of its own, because
the package brings torch.
"""

import logging
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryFile

from phi3_ui.host import child_process

logger = logging.getLogger(__name__)

_MODULE = "phi3_ui.host.zero_gpu_report"  # this one, which is __main__ where it reports
_SECONDS = 120.0


@contextmanager
def report() -> Iterator[None]:
    """Report while the block runs, and wait for the end of it. A failure is logged: the app answers without GPUs, too."""
    with TemporaryFile() as log:
        process = child_process.spawn(_MODULE, [], log)
        with process:
            yield
            try:
                code: int | None = process.wait(_SECONDS)
            except subprocess.TimeoutExpired:
                child_process.kill_group(process)
                code = None
        if code != 0:
            log.seek(0)
            logger.error("The host was not told that this Space uses ZeroGPU: %s", log.read().decode(errors="replace"))


def main() -> None:
    """Report. Raises what `spaces` raises."""
    import spaces
    from spaces import zero

    spaces.GPU(main)  # nothing is reported of a program without such a function
    zero.startup()


if __name__ == "__main__":
    main()
