"""The environment of a program that a test starts."""

import os
from pathlib import Path


def environment(home: Path, **more: str) -> dict[str, str]:
    """This process's, for an app of its own home; without what MLflow writes there of the stores that tests have used."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PHI3_UI", "MLFLOW"))}
    return {**inherited, "PHI3_UI_HOME": str(home), **more}
