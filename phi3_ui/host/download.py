"""The first stage of a remote model's process: it downloads the files, and becomes the confined process that loads them.

It has the app's environment, with what the store asks for; the process that it becomes has not.
"""

import json
import logging
import os
import sys
from dataclasses import replace
from pathlib import Path

from phi3_ui.host import child_process, containment
from phi3_ui.host.worker import error_summary
from phi3_ui.testing import find_script_folder


def main() -> None:
    """Run the stage; the arguments are the process that started this one, and the file of the containment."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    parent, file = sys.argv[1:]
    contained = containment.load(file)
    wanted = json.loads(os.environ.pop(child_process.DOWNLOAD_VARIABLE))
    try:
        import mlflow

        mlflow.set_tracking_uri(wanted["tracking_uri"])
        folder = mlflow.artifacts.download_artifacts(
            artifact_uri=wanted["uri"], dst_path=str(Path(contained.folder, "model"))
        )
    except BaseException as error:
        logging.getLogger("phi3_ui.host.download").exception("The model could not be downloaded")
        print(json.dumps(["failed", error_summary(error)]), flush=True)
        raise
    if script := find_script_folder(folder):
        contained = replace(contained, writable=(*contained.writable, script))
        contained.save()
    os.chdir(contained.work)
    command = child_process.build_command("read", int(parent), contained, "phi3_ui.host.worker", [folder])
    os.execve(command[0], command, contained.environment)  # noqa: S606 (our own module)


if __name__ == "__main__":
    main()
