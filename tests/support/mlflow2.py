"""A virtual environment with MLflow 2, for tests against a real MLflow 2 server. Created by `python -m tests.support.mlflow2`.

It is created once, from mlflow2-requirements.txt, and cached in .test-data; nothing is downloaded afterwards. It contains only
the server's dependencies, not those of MLflow's clients.
"""

import subprocess
import sys
from pathlib import Path

from tests.support.build_cache import build_lock, cached_folder

_REQUIREMENTS = Path(__file__).with_name("mlflow2-requirements.txt")
_REMEDY = "MLflow 2 could not be installed for the tests. Check the network and pip's settings, then run again."


def ensure() -> Path:
    """Return the environment's interpreter, creating the environment if necessary. Exit with a remedy if that fails."""
    with build_lock("mlflow2"):
        folder = cached_folder("mlflow2", ["tests/support/mlflow2-requirements.txt"])
        python = folder / "venv" / ("Scripts" if sys.platform == "win32" else "bin") / "python"
        done = folder / "installed"
        if not done.exists():
            install = [str(python), "-m", "pip", "install", "--quiet", "--no-deps", "--requirement", str(_REQUIREMENTS)]
            for command in ([sys.executable, "-m", "venv", "--clear", str(folder / "venv")], install):
                print("+", *command, flush=True)
                if subprocess.run(command, check=False).returncode:
                    sys.exit(_REMEDY)
            done.touch()
    return python


if __name__ == "__main__":
    print(ensure())
