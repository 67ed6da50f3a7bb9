"""A real MLflow 2 server for the tests, in a virtual environment of its own. `python -m tests.support.mlflow2` makes it.

The environment is made once, from mlflow2-requirements.txt, and kept in .test-data; afterwards nothing is downloaded. It holds
what the server needs, not what MLflow's clients need besides.
"""

import subprocess
import sys
from pathlib import Path

from tests.support.build_cache import build_lock, cached_folder

_REQUIREMENTS = Path(__file__).with_name("mlflow2-requirements.txt")
_CURE = "MLflow 2 could not be installed for the tests. Check the network and pip's settings, then run again."


def ensure() -> Path:
    """The interpreter of the environment, which is made if need be. Exits with the cure if that fails."""
    with build_lock("mlflow2"):
        folder = cached_folder("mlflow2", ["tests/support/mlflow2-requirements.txt"])
        python = folder / "venv" / ("Scripts" if sys.platform == "win32" else "bin") / "python"
        done = folder / "installed"
        if not done.exists():
            install = [str(python), "-m", "pip", "install", "--quiet", "--no-deps", "--requirement", str(_REQUIREMENTS)]
            for command in ([sys.executable, "-m", "venv", "--clear", str(folder / "venv")], install):
                print("+", *command, flush=True)
                if subprocess.run(command, check=False).returncode:
                    sys.exit(_CURE)
            done.touch()
    return python


if __name__ == "__main__":
    print(ensure())
