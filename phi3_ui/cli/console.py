"""The page's texts about a set-up, for a terminal. Imports no Gradio."""

from phi3_ui.i18n.translate import tr, tr_error
from phi3_ui.provision.jobs import JobState


class SetupPrinter:
    """Prints a line where the stage, or the tenth of the work that is done, has changed."""

    def __init__(self) -> None:
        self._last = ""

    def __call__(self, state: JobState) -> None:
        """Print `state` if it says something new."""
        line = setup_line(state)
        if line and line != self._last:
            self._last = line
            print(line, flush=True)


def setup_line(state: JobState) -> str:
    """The set-up in one line; empty while there is nothing to say."""
    if state.error:
        return f"{tr('en', 'setup.failed')} {tr_error('en', state.error)}"
    if state.phase == "waiting":
        return tr("en", "setup.waiting")
    if state.stage is None:
        return ""
    step = tr("en", "setup.step", step=state.step + 1, steps=len(state.stages))
    return f"{step} · {tr('en', f'setup.{state.stage}')} · {int(10 * state.fraction) * 10} %"
