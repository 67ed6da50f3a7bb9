"""Progress of a setup on a terminal, in the page's words. Imports no Gradio."""

from phi3_ui.i18n.translate import tr, tr_error
from phi3_ui.provision.jobs import JobState


class SetupPrinter:
    """Prints a line whenever the stage changes or another 10 % is done."""

    def __init__(self) -> None:
        self._last = ""

    def __call__(self, state: JobState) -> None:
        """Print `state` if its line differs from the last one."""
        line = format_setup(state)
        if line and line != self._last:
            self._last = line
            print(line, flush=True)


def format_setup(state: JobState) -> str:
    """Format the state of a setup as one line; empty while there is nothing to report."""
    if state.error:
        return f"{tr('en', 'setup.failed')} {tr_error('en', state.error)}"
    if state.phase == "waiting":
        return tr("en", "setup.waiting")
    if state.stage is None:
        return ""
    step = tr("en", "setup.step", step=state.step + 1, steps=len(state.stages))
    return f"{step} · {tr('en', f'setup.{state.stage}')} · {int(10 * state.fraction) * 10} %"
