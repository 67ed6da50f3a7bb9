"""Admission: exactly the inspected files are loaded, and code requires an approval that any change revokes."""

import json
import os
import shutil
import stat
import subprocess
import sys
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]
from filelock import FileLock

from phi3_ui.errors import UserError
from phi3_ui.host.hosted_model import HostedModel
from phi3_ui.host.protocol import ModelSpec
from phi3_ui.provision.relog import recipe_from_logged_model, remove_relog_folder
from phi3_ui.settings import Settings
from phi3_ui.store.registry.admission import Admission, name_suspects
from phi3_ui.store.registry.approvals import Approvals
from phi3_ui.store.registry.catalogue import Catalogue
from phi3_ui.store.registry.suspects import Suspect
from phi3_ui.store.registry.trust import inspect_model
from tests.store.registry.prompt_models import DECLARED, log_prompt_model
from tests.support.build_cache import create_store
from tests.support.command_line import RunCommand
from tests.support.model_folders import change_flavor, write_mlmodel, write_pipeline, write_wrapper

FINGERPRINT = "0123456789abcdef" * 4


def spec_of(folder: Path) -> ModelSpec:
    return ModelSpec("m-1", "a model", "models:/m-1", "text", "sqlite:///nowhere.db", folder=str(folder))


def admit(admission: Admission, folder: Path) -> ModelSpec:
    """Return the spec that a process would get. Raises UserError."""
    with admission.admit(spec_of(folder)) as admitted:
        return admitted


def refuse(admission: Admission, folder: Path) -> str:
    with pytest.raises(UserError) as raised:
        admit(admission, folder)
    assert raised.value.code == "model_not_trusted"
    return str(raised.value)


@pytest.fixture
def approvals(tmp_path: Path) -> Approvals:
    return Approvals(tmp_path / "home" / "trusted_models.json")


@pytest.fixture
def admission(tmp_path: Path, approvals: Approvals) -> Admission:
    return Admission(tmp_path / "home" / "loaded", approvals)


@pytest.fixture
def python_model(tmp_path: Path) -> Path:
    """Log a third-party model whose code leaves a mark when it runs."""
    folder = tmp_path / "model"
    write_mlmodel(
        folder,
        python_function={"loader_module": "mlflow.pyfunc.loaders.code_model", "model_code_path": "say.py"},
    )
    (folder / "say.py").write_text("raise ValueError('it ran')\n")
    return folder


def test_the_process_gets_a_private_copy_that_is_removed_with_it(admission: Admission, tmp_path: Path) -> None:
    folder = write_wrapper(tmp_path / "model")
    for source in (folder / "phi3_onnx.py", folder / "code" / "phi3_onnx_engine" / "slots.py"):
        (source.parent / "__pycache__").mkdir()
        (source.parent / "__pycache__" / f"{source.stem}.cpython-311.pyc").write_bytes(b"hostile")

    with admission.admit(spec_of(folder)) as admitted:
        assert admitted.level == "ours"
        assert admitted.folder
        copy = Path(admitted.folder)
        assert copy.is_relative_to(tmp_path / "home" / "loaded")
        assert stat.S_IMODE((tmp_path / "home" / "loaded").stat().st_mode) == 0o700
        assert (copy / "phi3_onnx.py").read_bytes() == (folder / "phi3_onnx.py").read_bytes()
        assert not list(copy.rglob("__pycache__")), "compiled code may come from another source"
        weights = "artifacts/onnx/model.onnx.data"
        assert (copy / weights).samefile(folder / weights), "gigabytes are not copied"
        assert not (copy / "phi3_onnx.py").samefile(folder / "phi3_onnx.py")
        (folder / "phi3_onnx.py").write_text("hostile")
        assert "hostile" not in (copy / "phi3_onnx.py").read_text()

    assert not copy.exists()


def test_weights_on_another_disk_are_linked(
    admission: Admission, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse_links(*_: object) -> None:
        raise OSError("another disk")

    monkeypatch.setattr(os, "link", refuse_links)
    with admission.admit(spec_of(write_pipeline(tmp_path / "model"))) as admitted:
        assert admitted.level == "data_only"
        weights = Path(str(admitted.folder)) / "model" / "model-00001-of-00001.safetensors"
        assert weights.is_symlink()
        assert weights.read_bytes()


def test_a_refusal_names_the_code_and_the_remedy(admission: Admission, python_model: Path) -> None:
    sentence = refuse(admission, python_model)

    assert "a model is not loaded" in sentence
    assert "(say.py)" in sentence
    assert "`python -m phi3_ui trust m-1 --approve`" in sentence


def test_an_approval_lasts_until_any_file_changes(
    admission: Admission, approvals: Approvals, python_model: Path
) -> None:
    approvals.add(inspect_model(python_model).fingerprint)
    assert admit(admission, python_model).level == "code"
    shutil.copytree(python_model, python_model.with_name("copy"))
    assert admit(admission, python_model.with_name("copy")).level == "code", "a copy has the same fingerprint"

    for name in ("say.py", "new.txt", "requirements.txt"):
        shutil.rmtree(python_model)
        shutil.copytree(python_model.with_name("copy"), python_model)
        admit(admission, python_model)
        (python_model / name).write_text("pass")
        refuse(admission, python_model)


def test_a_file_that_changes_between_two_loads_is_noticed(admission: Admission, tmp_path: Path) -> None:
    folder = write_pipeline(tmp_path / "model")
    admit(admission, folder)
    (folder / "model" / "modeling.py").write_text("")
    refuse(admission, folder)
    (folder / "model" / "modeling.py").unlink()
    admit(admission, folder)
    change_flavor(folder, "python_function", code="code")
    refuse(admission, folder)


def test_a_file_that_changes_after_its_inspection_is_not_loaded(
    admission: Admission, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The copy is inspected again, and it is the copy that the process loads."""
    folder = write_pipeline(tmp_path / "model")
    copyfile = shutil.copyfile

    def swap(source: Path, target: Path) -> None:
        if Path(source).name == "config.json":
            Path(source).write_text('{"auto_map": {"AutoConfig": "x.Y"}}')
        copyfile(source, target)

    monkeypatch.setattr(shutil, "copyfile", swap)
    assert "model/config.json: auto_map" in refuse(admission, folder)


def test_an_mlmodel_that_mlflow_would_parse_differently_is_refused(
    admission: Admission, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_pipeline(tmp_path / "model")
    admit(admission, folder)
    monkeypatch.setattr(yaml, "SafeLoader", yaml.BaseLoader)
    with pytest.raises(UserError, match="MLmodel is ambiguous"):
        admit(admission, folder)


def test_a_refused_model_starts_no_process(admission: Admission, python_model: Path, tmp_path: Path) -> None:
    model = HostedModel(spec_of(python_model), tmp_path / "logs", admission.admit)

    error = model.ready.exception(timeout=60)
    assert isinstance(error, UserError)
    assert error.code == "model_not_trusted"
    assert not (tmp_path / "logs").exists() or not list((tmp_path / "logs").iterdir()), (
        "no process was started that could log"
    )
    assert not model.is_alive
    model.unload()


def test_an_approved_model_runs_its_code(
    admission: Admission, approvals: Approvals, python_model: Path, tmp_path: Path
) -> None:
    """The control experiment for the test above."""
    approvals.add(inspect_model(python_model).fingerprint)
    model = HostedModel(spec_of(python_model), tmp_path / "logs", admission.admit)

    error = model.ready.exception(timeout=120)
    assert isinstance(error, UserError)
    assert error.code == "load_failed"
    assert "Error: it ran" in str(error)
    model.unload()


def test_a_constantly_changing_model_is_never_loaded_with_code(admission: Admission, tmp_path: Path) -> None:
    """Files, links and folders are swapped while the model is copied and inspected."""
    folder = write_pipeline(tmp_path / "model")
    config, model_file = folder / "model" / "config.json", folder / "MLmodel"
    original_config, original_mlmodel = config.read_text(), model_file.read_text()
    evil = tmp_path / "evil.py"
    evil.write_text("raise ValueError('it ran')\n")
    is_done = threading.Event()

    def swap_files() -> None:
        new, link = tmp_path / "new", folder / "model" / "modeling.py"
        while not is_done.is_set():
            for target, text in ((config, '{"auto_map": {"AutoConfig": "modeling.Y"}}'), (config, original_config)):
                new.write_text(text)
                new.replace(target)
            link.symlink_to(evil)
            link.unlink()
            new.write_text(original_mlmodel.replace("mlflow.transformers", "modeling"))
            new.replace(model_file)
            shutil.copyfile(evil, link)
            new.write_text(original_mlmodel)
            new.replace(model_file)
            link.unlink()

    thread = threading.Thread(target=swap_files)
    thread.start()
    outcomes = Counter[str]()
    try:
        for _ in range(100):
            try:
                with admission.admit(spec_of(folder)) as admitted:
                    copy = Path(str(admitted.folder))
                    assert (copy / "model" / "config.json").read_text() == original_config
                    assert (copy / "MLmodel").read_text() == original_mlmodel
                    assert not [*copy.rglob("*.py")]
                    outcomes["loaded"] += 1
            except UserError as error:
                outcomes[error.code] += 1
    finally:
        is_done.set()
        thread.join()
    assert outcomes.keys() <= {"loaded", "model_not_trusted", "model_unreadable"}
    assert outcomes["model_not_trusted"] + outcomes["model_unreadable"], "some changes were noticed"


@pytest.mark.parametrize("is_missing", [True, False])
def test_unreadable_files_are_reported_as_a_fault_of_the_model(
    admission: Admission, tmp_path: Path, is_missing: bool
) -> None:
    folder = tmp_path / "model"
    if not is_missing:
        folder.write_text("a file")
    with pytest.raises(UserError) as raised:
        admit(admission, folder)
    assert raised.value.code == "model_unreadable"


def test_copies_of_a_killed_app_are_removed_by_the_next(admission: Admission, tmp_path: Path) -> None:
    loaded = tmp_path / "home" / "loaded"
    for name in ("app-gone", "app-running"):
        (loaded / name / "copy").mkdir(parents=True)
    with FileLock(loaded / "app-running.lock"):
        admit(admission, write_pipeline(tmp_path / "model"))
    assert not (loaded / "app-gone").exists()
    assert (loaded / "app-running").exists()


def test_odd_names_are_shown_on_one_line() -> None:
    suspects = tuple(Suspect(path, "python") for path in ("a\n\x1b[2J.py", "b" * 300, "c", "d", "é.py", "é/e", "é/f"))
    shown = name_suspects(suspects)

    assert shown.startswith("a\ufffd\ufffd[2J.py, …b")
    assert shown.endswith(", c, d, é.py, +2")
    assert len(shown) < 200


# Approvals


def test_approvals_are_readable_only_by_this_user(approvals: Approvals, tmp_path: Path) -> None:
    assert not approvals.contains(FINGERPRINT)
    approvals.add(FINGERPRINT)
    file = tmp_path / "home" / "trusted_models.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert Approvals(file).contains(FINGERPRINT)
    assert not Approvals(file).contains("")
    assert Approvals(tmp_path / "none.json", [FINGERPRINT]).contains(FINGERPRINT)


def test_an_approval_by_another_process_counts_at_once(approvals: Approvals, tmp_path: Path) -> None:
    approvals.add("a" * 64)
    Approvals(tmp_path / "home" / "trusted_models.json").add("b" * 64)
    assert approvals.contains("b" * 64)
    approvals.add("c" * 64)
    assert approvals.list() == {letter * 64 for letter in "abc"}


@pytest.mark.parametrize("content", ["", "[]", '{"fingerprints": 7}', '{"fingerprints": ["*", ""]}', "\0"])
def test_a_damaged_file_approves_nothing(approvals: Approvals, tmp_path: Path, content: str) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "trusted_models.json").write_text(content)
    assert approvals.list() == frozenset()


def test_only_a_fingerprint_can_be_approved(approvals: Approvals) -> None:
    for text in ("", "x" * 64, FINGERPRINT.upper(), FINGERPRINT + "\n"):
        with pytest.raises(ValueError, match="not a fingerprint"):
            approvals.add(text)


# Control experiment: plain MLflow runs the attacking code.


@pytest.fixture(scope="module")
def canary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("canary") / "sang"


def test_plain_mlflow_runs_a_loader_disguised_as_transformers(tmp_path: Path, canary: Path) -> None:
    folder = write_pipeline(tmp_path / "model")
    change_flavor(folder, "python_function", loader_module="transformers_loader", code="code")
    (folder / "code").mkdir()
    (folder / "code" / "transformers_loader.py").write_text(f"open({str(canary)!r}, 'w')")

    program = f"import mlflow; mlflow.pyfunc.load_model({json.dumps(str(folder))})"
    subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert canary.exists()
    assert inspect_model(folder).level == "code"


# The command, and the checks of the page


@pytest.fixture
def store(tmp_path: Path) -> Catalogue:
    """A store with a third-party model, newer than a data-only pipeline."""
    uri = create_store(tmp_path / "home", "models")
    for name in ("safe", "theirs"):
        model_id = log_prompt_model(uri, name, DECLARED)
        if name == "safe":
            folder = tmp_path / "home" / "artifacts" / "models" / model_id / "artifacts"
            shutil.rmtree(folder)
            write_pipeline(folder)
            content = (folder / "MLmodel").read_text().replace("contract: prompt", "contract: chat")
            (folder / "MLmodel").write_text(content)
    return Catalogue(uri)


def test_only_data_and_approved_models_are_loadable(store: Catalogue, admission: Admission) -> None:
    third_party, safe = store.list_models()
    assert (third_party.name, safe.name) == ("theirs", "safe")
    assert not admission.is_loadable(third_party)
    assert admission.is_loadable(safe)
    with pytest.raises(UserError, match="theirs is not loaded"):
        admission.require(third_party)
    admission.require(safe)

    admission.approvals.add(admission.inspect(third_party).fingerprint)
    assert admission.is_loadable(third_party)
    admission.require(third_party)
    (Path(str(third_party.folder)) / "more.py").write_text("")
    assert not admission.is_loadable(third_party)
    shutil.rmtree(str(safe.folder))
    assert not admission.is_loadable(safe)


def test_a_remote_model_that_declares_code_is_refused_before_it_is_downloaded(
    store: Catalogue, admission: Admission
) -> None:
    third_party, safe = (replace(entry, folder=None) for entry in store.list_models())
    assert (third_party.declares_code, safe.declares_code) == (True, False)
    assert (admission.is_loadable(third_party), admission.is_loadable(safe)) == (False, True)
    admission.require(safe)
    with pytest.raises(UserError, match="theirs is not loaded"):
        admission.require(third_party)

    admission.approvals.add(FINGERPRINT)  # may be the approval of this model: only its files can tell
    admission.require(third_party)
    spec = ModelSpec(third_party.model_id, "theirs", third_party.uri, "prompt", third_party.tracking_uri)
    with pytest.raises(UserError, match=r"theirs is not loaded.*echo_model\.py"), admission.admit(spec):
        pass
    review = admission.review(third_party)
    assert review
    assert not review.is_loadable, "the inspection is cached"
    admission.approvals.add(admission.inspect(third_party).fingerprint)
    with admission.admit(spec) as admitted:
        assert Path(str(admitted.folder), "echo_model.py").is_file()


def test_the_command_names_what_would_run_and_approves_it(
    store: Catalogue, tmp_path: Path, run_command: RunCommand
) -> None:
    home = tmp_path / "home"
    third_party, _ = store.list_models()
    assert run_command(home, "trust", "safe").returncode == 0

    refused = run_command(home, "trust", "theirs")
    assert refused.returncode == 1
    assert "echo_model.py: Python code" in refused.stdout
    assert f"python -m phi3_ui trust {third_party.model_id} --approve" in refused.stdout
    chat = run_command(home, "chat", "theirs", "Hi")
    assert chat.returncode == 1
    assert "theirs is not loaded" in chat.stderr
    (tmp_path / "questions.txt").write_text("Hi\n")
    evaluation = run_command(home, "evaluate", "theirs", tmp_path / "questions.txt")
    assert evaluation.returncode == 1
    assert "theirs is not loaded" in evaluation.stderr

    fingerprint = json.loads(run_command(home, "trust", "theirs", "--json").stdout)["fingerprint"]
    approved = run_command(home, "trust", "theirs", "--approve")
    assert (approved.returncode, f"Fingerprint: {fingerprint}" in approved.stdout) == (0, True)
    assert run_command(home, "trust", third_party.model_id).returncode == 0
    assert run_command(home, "trust", "safe", "--approve").returncode == 0
    assert Approvals(home / "trusted_models.json").list() == {fingerprint}, "data-only models need no approval"


def test_models_with_files_that_run_code_cannot_be_relogged(tmp_path: Path) -> None:
    home = tmp_path / "home"
    uri = create_store(home, "models")
    model_id = log_prompt_model(uri, "tiny-onnx", DECLARED)
    folder = home / "artifacts" / "models" / model_id / "artifacts"
    shutil.rmtree(folder)
    write_wrapper(folder)
    settings = Settings.read({"PHI3_UI_HOME": str(home), "MLFLOW_TRACKING_URI": uri})
    remove_relog_folder(recipe_from_logged_model(settings, model_id))

    onnx = folder / "artifacts" / "onnx"
    (onnx / "genai_config.json").write_text('{"custom_ops_library": "x"}')
    (onnx / "secrets.txt").symlink_to("/etc/hostname")
    with pytest.raises(UserError) as raised:
        recipe_from_logged_model(settings, model_id)
    assert raised.value.code == "relog_unsafe"
    assert "(genai_config.json: custom_ops_library, secrets.txt)" in str(raised.value)
    assert not list(home.glob("models/*/relog-*"))
