"""Diagnoses of real logged models whose stored files were changed."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow.pyfunc.model import PythonModel
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

from models.wrapper_code import ENGINE, WRAPPER, code_metadata
from phi3_ui.errors import UserError
from phi3_ui.i18n.translate import TEXTS
from phi3_ui.store.registry import doctor
from phi3_ui.store.registry.doctor import CODES, Diagnosis, diagnose

pytestmark = pytest.mark.filterwarnings("ignore:.*:UserWarning", "ignore:.*:FutureWarning")

# A wrapper as tutorials wrote it in 2024.
_OLD_WRAPPER = """
import mlflow
import onnxruntime_genai as og

class Old(mlflow.pyfunc.PythonModel):
    def load_context(self, context):
        self.model = og.Model(context.artifacts["phi3-mini-onnx"])
        self.tokenizer = og.Tokenizer(self.model)

    def predict(self, context, model_input):
        params = og.GeneratorParams(self.model)
        params.input_ids = self.tokenizer.encode(model_input["prompt"][0])
        return self.tokenizer.decode(self.model.generate(params)[0])

mlflow.models.set_model(Old())
"""


_TWO_FILES = """
import mlflow

class Earlier(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input):
        return []

mlflow.models.set_model(Earlier())
"""


@pytest.fixture(autouse=True)
def log_to_store(uri: str) -> None:
    mlflow.set_tracking_uri(uri)
    mlflow.set_experiment("models")


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A folder with the files of an ONNX model that cannot be loaded."""
    folder = tmp_path / "tiny-onnx"
    folder.mkdir()
    config = {"model": {"decoder": {"filename": "model.onnx", "head_size": 64}}}
    (folder / "genai_config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text("{}")
    (folder / "model.onnx").write_bytes(bytes(range(256)) * 4000)
    return folder


def _log(code: Path, weights: Path, **metadata: Any) -> str:
    """Log `weights` with the wrapper `code` and its imports in the same folder, if any, and return the model id."""
    imported = [path for path in (code.with_name(ENGINE.name), code.with_name("phi3_onnx_slots.py")) if path.exists()]
    logged = mlflow.pyfunc.log_model(
        name="tiny-onnx",
        python_model=str(code),
        artifacts={"phi3-mini-onnx": str(weights)},
        code_paths=[str(path) for path in imported] or None,
        pip_requirements=[f"mlflow=={mlflow.__version__}", "onnxruntime-genai"],
        metadata={"contract": "prompt", "chat_template": "{{ messages }}", **metadata},
    )
    return str(logged.model_id)


def _digest(*files: Path) -> str:
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


@pytest.fixture
def model_id(log_to_store: None, weights: Path) -> str:
    """The id of a model with the app's current wrapper."""
    return _log(WRAPPER, weights, **code_metadata())


@pytest.fixture
def artifacts(model_id: str, tmp_path: Path) -> Path:
    """The folder with that model's files in the store."""
    return tmp_path / "artifacts" / "models" / model_id / "artifacts"


def _codes(diagnosis: Diagnosis) -> list[str]:
    return [finding.code for finding in diagnosis.findings]


def _values(diagnosis: Diagnosis, code: str) -> list[dict[str, str | int]]:
    return [finding.values for finding in diagnosis.findings if finding.code == code]


def test_a_newly_logged_model_has_no_problem(uri: str, model_id: str) -> None:
    diagnosis = diagnose(uri, model_id)

    assert sorted(_codes(diagnosis)) == ["files_complete", "versions_match", "wrapper_current"]
    assert (diagnosis.severity, diagnosis.can_relog) == ("ok", True)


def test_each_file_is_downloaded_once(uri: str, model_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # A second download could not overwrite the copy of a file that is read-only in the store.
    download: Any = LocalArtifactRepository.download_artifacts
    downloaded = list[str]()

    def record(self: LocalArtifactRepository, artifact_path: str, dst_path: str | None = None) -> str:
        downloaded.append(artifact_path)
        return str(download(self, artifact_path, dst_path))

    monkeypatch.setattr(LocalArtifactRepository, "download_artifacts", record)
    diagnose(uri, model_id)

    assert "phi3_onnx.py" in downloaded
    assert len(downloaded) == len(set(downloaded))


@pytest.mark.parametrize(
    ("version", "filters", "code"), [(0, True, "not_isolated"), (5, True, "partly_isolated"), (6, False, "unfiltered")]
)
def test_a_system_that_cannot_isolate_models_is_reported(
    uri: str, model_id: str, version: int, filters: bool, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "landlock_version", lambda: version)
    monkeypatch.setattr(doctor, "has_seccomp", lambda: filters)

    diagnosis = diagnose(uri, model_id)

    assert code in _codes(diagnosis)
    assert diagnosis.severity == "warning"


def test_it_is_reported_whether_a_model_can_be_batched(
    uri: str, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (weights / "model.batched.onnx").write_bytes(b"a graph")
    ready = _log(WRAPPER, weights, **code_metadata(), batching="ready")
    (weights / "model.batched.onnx").unlink()
    missing = _log(WRAPPER, weights, **code_metadata(), batching="ready")
    unsupported = _log(WRAPPER, weights, **code_metadata(), batching="its attention is another")
    unknown = _log(WRAPPER, weights, **code_metadata())

    assert "batched_graph" in _codes(diagnose(uri, ready))
    assert diagnose(uri, ready).severity == "ok"
    assert _values(diagnose(uri, missing), "file_missing") == [{"file": "artifacts/tiny-onnx/model.batched.onnx"}]
    assert _values(diagnose(uri, unsupported), "unfit_graph") == [{"detail": "its attention is another"}]
    assert "no_batched_graph" not in _codes(diagnose(uri, unknown)), "the graph is made when it is loaded"
    monkeypatch.setattr(doctor, "find_spec", lambda name: None)
    assert "no_batched_graph" in _codes(diagnose(uri, unknown))


def test_version_differences_are_reported(uri: str, model_id: str, artifacts: Path) -> None:
    requirements = "# a comment\n-r other.txt\nonnxruntime-genai==0.4.0\nmlflow>=2\nnot-there-at-all==1.0\nno-pin\n"
    (artifacts / "requirements.txt").write_text(requirements)
    model_file = artifacts / "MLmodel"
    text = model_file.read_text()
    python = next(line for line in text.splitlines() if "python_version" in line)
    model_file.write_text(text.replace(python, "    python_version: 3.8.1"))

    diagnosis = diagnose(uri, model_id)

    values = {finding.code: finding.values for finding in diagnosis.findings}
    assert values["version_differs"]["package"] == "onnxruntime-genai"
    assert values["version_differs"]["logged"] == "0.4.0"
    assert values["package_missing"] == {"package": "not-there-at-all", "logged": "1.0"}
    assert values["python_differs"]["logged"] == "3.8.1"
    assert "versions_match" not in values
    assert diagnosis.findings[0].code == "package_missing", "findings are sorted by severity"


@pytest.mark.parametrize(
    "file",
    [
        "phi3_onnx.py",
        "code/phi3_onnx_engine/slots.py",
        "artifacts/tiny-onnx/model.onnx",
        "artifacts/tiny-onnx/tokenizer.json",
        "conda.yaml",
    ],
)
def test_a_missing_file_is_reported(uri: str, model_id: str, artifacts: Path, file: str) -> None:
    (artifacts / file).unlink()

    diagnosis = diagnose(uri, model_id)

    assert _values(diagnosis, "file_missing") == [{"file": file}]
    assert diagnosis.severity == "error"


def test_a_missing_mlmodel_file_is_the_only_finding(uri: str, model_id: str, artifacts: Path) -> None:
    (artifacts / "MLmodel").unlink()

    diagnosis = diagnose(uri, model_id)

    assert [(finding.code, finding.values) for finding in diagnosis.findings] == [("file_missing", {"file": "MLmodel"})]
    assert not diagnosis.can_relog


def test_truncated_and_empty_weights_are_reported(uri: str, model_id: str, artifacts: Path) -> None:
    weights = artifacts / "artifacts" / "tiny-onnx" / "model.onnx"
    weights.write_bytes(weights.read_bytes()[:-100_000])
    assert _values(diagnose(uri, model_id), "files_truncated") == [{"missing_mb": "0.100"}]

    weights.write_bytes(b"")
    assert "file_empty" in _codes(diagnose(uri, model_id))


def test_a_missing_shard_is_reported(uri: str, model_id: str, artifacts: Path) -> None:
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model.onnx"}}
    (artifacts / "artifacts" / "tiny-onnx" / "model.safetensors.index.json").write_text(json.dumps(index))

    diagnosis = diagnose(uri, model_id)

    missing = "artifacts/tiny-onnx/model-00001-of-00002.safetensors"
    assert _values(diagnosis, "file_missing") == [{"file": missing}]


@pytest.mark.parametrize("file", ["phi3_onnx.py", "code/phi3_onnx_engine/slots.py"])
def test_a_wrapper_changed_after_logging_is_an_error(uri: str, model_id: str, artifacts: Path, file: str) -> None:
    with (artifacts / file).open("a") as wrapper:
        wrapper.write("# one more line\n")

    diagnosis = diagnose(uri, model_id)

    assert "wrapper_changed" in _codes(diagnosis)
    assert diagnosis.severity == "error"


def test_a_wrapper_from_another_version_of_the_app_is_a_warning(uri: str, weights: Path, tmp_path: Path) -> None:
    other = tmp_path / "phi3_onnx.py"
    other.write_text(WRAPPER.read_text() + "# of another version\n")
    shutil.copytree(ENGINE, tmp_path / ENGINE.name, ignore=shutil.ignore_patterns("__pycache__"))
    code = [other, *sorted((tmp_path / ENGINE.name).iterdir())]

    metadata = {**code_metadata(), "wrapper_sha256": _digest(*code)}

    diagnosis = diagnose(uri, _log(other, weights, **metadata))

    assert "wrapper_outdated" in _codes(diagnosis)
    assert (diagnosis.severity, diagnosis.can_relog) == ("warning", True)


def test_the_wrapper_of_an_earlier_release_is_complete_with_its_two_files(
    uri: str, weights: Path, tmp_path: Path
) -> None:
    """Their metadata does not list the files."""
    other, slots = tmp_path / "phi3_onnx.py", tmp_path / "phi3_onnx_slots.py"
    other.write_text(_TWO_FILES)
    slots.write_text("# KV-cache slots\n")
    model_id = _log(other, weights, wrapper_sha256=_digest(other, slots))
    stored = tmp_path / "artifacts" / "models" / model_id / "artifacts" / "code" / slots.name

    assert {"wrapper_outdated", "files_complete"} <= set(_codes(diagnose(uri, model_id)))
    stored.unlink()
    assert _values(diagnose(uri, model_id), "file_missing") == [{"file": "code/phi3_onnx_slots.py"}]


def test_a_removed_api_is_found_in_a_wrappers_code(uri: str, weights: Path, tmp_path: Path) -> None:
    code = tmp_path / "old_wrapper.py"
    code.write_text(_OLD_WRAPPER)

    diagnosis = diagnose(uri, _log(code, weights))

    (values,) = _values(diagnosis, "old_api")
    assert (values["file"], values["what"]) == ("old_wrapper.py", ".generate(), .input_ids")
    assert diagnosis.severity == "error"


def test_a_removed_api_is_found_in_a_pickled_wrapper(uri: str) -> None:
    class Pickled(PythonModel):
        def predict(self, context: Any, model_input: Any, params: Any = None) -> str:
            import onnxruntime_genai as og

            options = og.GeneratorParams(og.Model("somewhere"))
            options.input_ids = [1, 2]
            generator = og.Generator(None, options)
            generator.compute_logits()
            return ""

    logged = mlflow.pyfunc.log_model(name="pickled", python_model=Pickled(), pip_requirements=["mlflow"])

    diagnosis = diagnose(uri, logged.model_id)

    (values,) = _values(diagnosis, "old_api")
    assert (values["file"], values["what"]) == ("python_model.pkl", ".compute_logits(), .input_ids")
    assert not diagnosis.can_relog


def test_code_with_a_syntax_error_is_reported(uri: str, model_id: str, artifacts: Path) -> None:
    (artifacts / "phi3_onnx.py").write_text("def broken(:\n")

    assert "code_unreadable" in _codes(diagnose(uri, model_id))


def test_an_unknown_model_id_is_a_user_error(uri: str) -> None:
    with pytest.raises(UserError, match="no longer in the tracking store"):
        diagnose(uri, "m-none")


def test_an_unreachable_store_is_a_user_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(UserError, match="does not answer"):
        diagnose("http://127.0.0.1:9", "m-none")


@pytest.mark.parametrize("language", TEXTS)
def test_every_finding_and_severity_has_a_text(language: str) -> None:
    assert [code for code in CODES if f"doctor.{code}" not in TEXTS[language]] == ["remote_failed"], (
        "it has the error's"
    )
    assert [severity for severity in set(CODES.values()) if f"doctor.severity.{severity}" not in TEXTS[language]] == []
