"""The command line: `python -m phi3_ui`, or `phi3-chat` where the app is installed."""

from models import disable_telemetry


def main(arguments: list[str] | None = None) -> None:
    """Run one command and exit."""
    disable_telemetry()
    from phi3_ui.cli.main import main as run  # imports MLflow, which reads its telemetry switch then

    run(arguments)


if __name__ == "__main__":
    main()
