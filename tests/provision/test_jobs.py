"""A job whose step is killed from outside."""

import os
import signal
import threading
from pathlib import Path

import psutil
import pytest

from phi3_ui.errors import UserError
from phi3_ui.provision.jobs import Job, JobState
from phi3_ui.provision.recipes import Recipe
from tests.conftest import settings_for


def test_a_killed_step_is_reported_with_its_signal_and_not_its_last_progress(
    tmp_path: Path, tiny_checkpoint: Path
) -> None:
    running = threading.Event()

    def see(state: JobState) -> None:
        if state.total:  # the step's own process has reported
            running.set()

    def kill() -> None:
        assert running.wait(timeout=120)
        for child in psutil.Process().children():
            if "models.log_pipeline" in child.cmdline():
                os.kill(child.pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    job = Job(settings_for(tmp_path), Recipe("tiny", pipeline=tiny_checkpoint), see)
    with pytest.raises(UserError, match="because memory ran out") as raised:
        job.run()
    killer.join()
    assert raised.value.code == "stage_killed"
    assert "SIGKILL" in Path(str(raised.value.values["log"])).read_text()
    assert job.state.phase == "failed"
