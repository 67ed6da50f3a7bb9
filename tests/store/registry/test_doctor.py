"""What the doctor finds: real logged models, tampered with as a store is."""

import contextlib
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import mlflow
import pytest
from hypothesis import given
from hypothesis import strategies as st

from phi3_ui.errors import UserError
from phi3_ui.i18n.translate import TEXTS
from phi3_ui.store.registry.doctor import CODES, SLOTS, WRAPPER, Diagnosis, diagnose
from phi3_ui.store.registry.logged_code import find_removed_api_in_pickle, find_removed_api_in_source
from tests.support.build_cache import create_store

pytestmark = pytest.mark.filterwarnings("ignore:.*:UserWarning", "ignore:.*:FutureWarning")

# As the tutorials of 2024 had it.
_OLD = """
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


@pytest.fixture
def uri(tmp_path: Path) -> str:
    uri = create_store(tmp_path, "models")
    mlflow.set_tracking_uri(uri)
    mlflow.set_experiment("models")
    return uri


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """An ONNX folder as far as its files go; nothing loads it here."""
    folder = tmp_path / "tiny-onnx"
    folder.mkdir()
    config = {"model": {"decoder": {"filename": "model.onnx", "head_size": 64}}}
    (folder / "genai_config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text("{}")
    (folder / "model.onnx").write_bytes(bytes(range(256)) * 4000)
    return folder


def _log(code: Path, weights: Path, **metadata: Any) -> str:
    logged = mlflow.pyfunc.log_model(
        name="tiny-onnx",
        python_model=str(code),
        artifacts={"phi3-mini-onnx": str(weights)},
        code_paths=[str(beside)] if (beside := code.with_name(SLOTS.name)).exists() else None,
        pip_requirements=[f"mlflow=={mlflow.__version__}", "onnxruntime-genai"],
        metadata={"contract": "prompt", "chat_template": "{{ messages }}", **metadata},
    )
    return str(logged.model_id)


def _digest(wrapper: Path) -> str:
    return hashlib.sha256(wrapper.read_bytes() + SLOTS.read_bytes()).hexdigest()


@pytest.fixture
def ours(uri: str, weights: Path) -> str:
    """The id of a model around the app's own wrapper."""
    return _log(WRAPPER, weights, wrapper_sha256=_digest(WRAPPER))


@pytest.fixture
def stored(uri: str, ours: str, tmp_path: Path) -> Path:
    """Its files in the store."""
    return tmp_path / "artifacts" / "models" / ours / "artifacts"


def _codes(diagnosis: Diagnosis) -> list[str]:
    return [finding.code for finding in diagnosis.findings]


def test_a_model_just_logged_is_healthy(uri: str, ours: str) -> None:
    diagnosis = diagnose(uri, ours)

    assert sorted(_codes(diagnosis)) == ["files_complete", "versions_match", "wrapper_current"]
    assert (diagnosis.severity, diagnosis.can_relog) == ("ok", True)


def test_other_versions_are_named(uri: str, ours: str, stored: Path) -> None:
    requirements = "# a comment\n-r other.txt\nonnxruntime-genai==0.4.0\nmlflow>=2\nnot-there-at-all==1.0\nno-pin\n"
    (stored / "requirements.txt").write_text(requirements)
    model_file = stored / "MLmodel"
    text = model_file.read_text()
    python = next(line for line in text.splitlines() if "python_version" in line)
    model_file.write_text(text.replace(python, "    python_version: 3.8.1"))

    diagnosis = diagnose(uri, ours)

    found = {finding.code: finding.values for finding in diagnosis.findings}
    assert found["version_differs"]["package"] == "onnxruntime-genai"
    assert found["version_differs"]["logged"] == "0.4.0"
    assert found["package_missing"] == {"package": "not-there-at-all", "logged": "1.0"}
    assert found["python_differs"]["logged"] == "3.8.1"
    assert "versions_match" not in found
    assert diagnosis.findings[0].code == "package_missing", "the worst comes first"


@pytest.mark.parametrize(
    "file",
    [
        "phi3_onnx.py",
        "code/phi3_onnx_slots.py",
        "artifacts/tiny-onnx/model.onnx",
        "artifacts/tiny-onnx/tokenizer.json",
        "conda.yaml",
    ],
)
def test_a_file_that_is_gone_is_named(uri: str, ours: str, stored: Path, file: str) -> None:
    (stored / file).unlink()

    diagnosis = diagnose(uri, ours)

    assert [finding.values for finding in diagnosis.findings if finding.code == "file_missing"] == [{"file": file}]
    assert diagnosis.severity == "error"


def test_a_model_without_its_first_file_is_no_traceback(uri: str, ours: str, stored: Path) -> None:
    (stored / "MLmodel").unlink()

    diagnosis = diagnose(uri, ours)

    assert [(finding.code, finding.values) for finding in diagnosis.findings] == [("file_missing", {"file": "MLmodel"})]
    assert not diagnosis.can_relog


def test_an_empty_and_a_shortened_file_are_found(uri: str, ours: str, stored: Path) -> None:
    weights = stored / "artifacts" / "tiny-onnx" / "model.onnx"
    weights.write_bytes(weights.read_bytes()[:-100_000])
    assert [f.values for f in diagnose(uri, ours).findings if f.code == "files_truncated"] == [{"missing_mb": "0.100"}]

    weights.write_bytes(b"")
    assert "file_empty" in _codes(diagnose(uri, ours))


def test_a_shard_that_an_index_names_and_the_store_lacks_is_found(uri: str, ours: str, stored: Path) -> None:
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model.onnx"}}
    (stored / "artifacts" / "tiny-onnx" / "model.safetensors.index.json").write_text(json.dumps(index))

    missing = [finding.values["file"] for finding in diagnose(uri, ours).findings if finding.code == "file_missing"]

    assert missing == ["artifacts/tiny-onnx/model-00001-of-00002.safetensors"]


@pytest.mark.parametrize("file", ["phi3_onnx.py", "code/phi3_onnx_slots.py"])
def test_a_wrapper_changed_after_logging_is_an_error(uri: str, ours: str, stored: Path, file: str) -> None:
    with (stored / file).open("a") as wrapper:
        wrapper.write("# one more line\n")

    diagnosis = diagnose(uri, ours)

    assert "wrapper_changed" in _codes(diagnosis)
    assert diagnosis.severity == "error"


def test_the_wrapper_of_another_version_of_the_app_is_a_warning(uri: str, weights: Path, tmp_path: Path) -> None:
    other = tmp_path / "phi3_onnx.py"
    other.write_text(WRAPPER.read_text() + "# of another version\n")
    shutil.copy(SLOTS, tmp_path)

    diagnosis = diagnose(uri, _log(other, weights, wrapper_sha256=_digest(other)))

    assert "wrapper_outdated" in _codes(diagnosis)
    assert (diagnosis.severity, diagnosis.can_relog) == ("warning", True)


def test_a_wrapper_of_the_old_api_is_found_in_its_code(uri: str, weights: Path, tmp_path: Path) -> None:
    code = tmp_path / "old_wrapper.py"
    code.write_text(_OLD)

    diagnosis = diagnose(uri, _log(code, weights))

    found = next(finding for finding in diagnosis.findings if finding.code == "old_api")
    assert (found.values["file"], found.values["what"]) == ("old_wrapper.py", ".generate(), .input_ids")
    assert diagnosis.severity == "error"


def test_a_pickled_wrapper_of_the_old_api_is_found(uri: str) -> None:
    class Pickled(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
        def predict(self, context: Any, model_input: Any, params: Any = None) -> str:
            import onnxruntime_genai as og

            options = og.GeneratorParams(og.Model("somewhere"))
            options.input_ids = [1, 2]
            generator = og.Generator(None, options)
            generator.compute_logits()
            return ""

    logged = mlflow.pyfunc.log_model(name="pickled", python_model=Pickled(), pip_requirements=["mlflow"])

    diagnosis = diagnose(uri, logged.model_id)

    found = next(finding for finding in diagnosis.findings if finding.code == "old_api")
    assert (found.values["file"], found.values["what"]) == ("python_model.pkl", ".compute_logits(), .input_ids")
    assert not diagnosis.can_relog


def test_code_that_is_no_python_is_one_finding(uri: str, ours: str, stored: Path) -> None:
    (stored / "phi3_onnx.py").write_text("def broken(:\n")

    assert "code_unreadable" in _codes(diagnose(uri, ours))


def test_no_model_is_one_sentence(uri: str) -> None:
    with pytest.raises(UserError, match="no longer in the tracking store"):
        diagnose(uri, "m-none")


def test_a_store_that_does_not_answer_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(UserError, match="does not answer"):
        diagnose("http://127.0.0.1:9", "m-none")


@pytest.mark.parametrize(
    ("source", "removed"),
    [
        ("import onnxruntime_genai as og\np = og.GeneratorParams(m)\np.input_ids = [1]", [".input_ids"]),
        ("from onnxruntime_genai import Model\nm = Model('x')\nm.generate(p)", [".generate()"]),
        ("import onnxruntime_genai\ngenerator.compute_logits()", [".compute_logits()"]),
        ("import onnxruntime_genai as og\nx = tokens.input_ids\nother.generate(1)", []),
        ("params.input_ids = [1]\nmodel.generate(params)", []),
        (WRAPPER.read_text(), []),
    ],
)
def test_only_the_engines_removed_api_is_named(source: str, removed: list[str]) -> None:
    assert find_removed_api_in_source(source) == removed


@given(st.binary())
def test_what_is_no_pickle_is_no_error(data: bytes) -> None:
    assert find_removed_api_in_pickle(data) == []


@given(st.text())
def test_what_is_no_python_is_a_syntax_error_at_most(text: str) -> None:
    with contextlib.suppress(SyntaxError, ValueError):
        assert find_removed_api_in_source(text) == []


@pytest.mark.parametrize("language", TEXTS)
def test_every_finding_has_its_sentence(language: str) -> None:
    assert [code for code in CODES if f"doctor.{code}" not in TEXTS[language]] == []
    assert [word for word in set(CODES.values()) if f"doctor.severity.{word}" not in TEXTS[language]] == []
