"""Reports to the host of a ZeroGPU Space that this Space uses lent GPUs; otherwise the host considers the Space broken.

The package `spaces` does so in `gr.Blocks.launch`, which this app does not call. It runs in its own process, because the package
imports torch.
"""

import logging
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryFile

from phi3_ui.host import child_process

logger = logging.getLogger(__name__)

_MODULE = "phi3_ui.host.zero_gpu_report"  # this module, whose __name__ is __main__ in the child
_SECONDS = 120.0


@contextmanager
def report() -> Iterator[None]:
    """Report while the block runs, then wait for the report to finish. A failure is only logged: the app also answers without GPUs."""
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
            logger.error("Reporting the use of ZeroGPU to the host failed: %s", log.read().decode(errors="replace"))


def main() -> None:
    """Report to the host. Raises any error of `spaces`."""
    import spaces
    from spaces import zero

    spaces.GPU(main)  # a program without a decorated function reports nothing
    zero.startup()


if __name__ == "__main__":
    main()
