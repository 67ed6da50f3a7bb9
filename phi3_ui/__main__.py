"""The command line: `python -m phi3_ui`, or `phi3-chat` if the app is installed."""

from collections.abc import Sequence

import click

from models import prepare_program
from phi3_ui.server import serve as run_server
from phi3_ui.settings import Settings


@click.command()
def serve() -> None:
    """Serve the page until Ctrl-C, as `python app.py` does."""
    run_server(Settings.read())


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit."""
    prepare_program()
    from phi3_ui.cli.main import main as run  # imports MLflow, which reads its telemetry switch on import

    run(arguments, [serve])


if __name__ == "__main__":
    main()
