"""Environment variables of programs that tests start."""

import os
from pathlib import Path


def environment(home: Path, **more: str) -> dict[str, str]:
    """Return this process's environment for an app in `home`. Drop app and MLflow variables: MLflow sets some for tests' stores."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PHI3_UI", "MLFLOW"))}
    return {**inherited, "PHI3_UI_HOME": str(home), **more}
