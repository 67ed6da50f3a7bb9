"""Malicious models with a canary: plain MLflow runs their code, the app does not, however they are selected."""

import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from phi3_ui.errors import UserError
from phi3_ui.host.pool import Pool
from phi3_ui.host.protocol import ModelSpec
from phi3_ui.paths import ROOT
from phi3_ui.store.registry.admission import Admission
from phi3_ui.store.registry.approvals import Approvals
from phi3_ui.store.registry.released_code import WRAPPER
from phi3_ui.store.registry.trust import inspect_model
from tests.support.cards import ENTRY
from tests.support.env import environment
from tests.support.model_folders import change_flavor, change_json, write_mlmodel, write_pipeline, write_wrapper

Canary = str
"""A Python statement that creates a file, as a mark that it ran."""


class _RunsWhenUnpickled:
    """Runs the canary when it is unpickled."""

    def __init__(self, canary: Canary) -> None:
        self._canary = canary

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return exec, (self._canary,)


def _pickle_canary(canary: Canary) -> bytes:
    return pickle.dumps(_RunsWhenUnpickled(canary))


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def _cloudpickle(folder: Path, canary: Canary) -> None:
    entries = {"cloudpickle_version": "3.1.2", "python_model": "python_model.pkl"}
    write_mlmodel(folder, python_function={"loader_module": "mlflow.pyfunc.model", **entries})
    (folder / "python_model.pkl").write_bytes(_pickle_canary(canary))


def _models_from_code(folder: Path, canary: Canary) -> None:
    loader = "mlflow.pyfunc.loaders.code_model"
    write_mlmodel(folder, python_function={"loader_module": loader, "model_code_path": "model.py"})
    _write(folder / "model.py", canary)


def _claims_to_be_ours(folder: Path, canary: Canary) -> None:
    _write(write_wrapper(folder) / WRAPPER, canary)


def _one_line_more(folder: Path, canary: Canary) -> None:
    wrapper = write_wrapper(folder) / WRAPPER
    source = wrapper.read_text()
    first_import = source.index("\nimport ")
    _write(wrapper, f"{source[:first_import]}\n{canary}{source[first_import:]}")


def _hostile_helper(folder: Path, canary: Canary) -> None:
    _write(write_wrapper(folder) / "code" / "phi3_onnx_engine" / "slots.py", canary)


def _shadowed_import(folder: Path, canary: Canary) -> None:
    _write(write_wrapper(folder) / "code" / "tokenizers.py", canary)


def _loader_disguised(folder: Path, canary: Canary) -> None:
    change_flavor(write_pipeline(folder), "python_function", loader_module="transformers_loader", code="code")
    _write(folder / "code" / "transformers_loader.py", canary)


def _loader_beside_ours(folder: Path, canary: Canary) -> None:
    change_flavor(write_wrapper(folder), "python_function", loader_module="loader")
    _write(folder / "code" / "loader.py", canary)


def _behind_a_link(folder: Path, canary: Canary) -> None:
    write_wrapper(folder)
    outside = folder.with_name(f"{folder.name}-outside.py")
    _write(outside, canary)
    (folder / WRAPPER).unlink()
    (folder / WRAPPER).symlink_to(outside)


def _code_outside(folder: Path, canary: Canary) -> None:
    outside = folder.with_name(f"{folder.name}-outside")
    _write(outside / "own_loader.py", canary)
    change_flavor(write_pipeline(folder), "python_function", loader_module="own_loader", code=f"../{outside.name}")


def _auto_map(folder: Path, canary: Canary) -> None:
    change_flavor(write_pipeline(folder), "transformers", pipeline_model_type="Own")
    auto_map = {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Own"}
    change_json(folder / "model" / "config.json", auto_map=auto_map, model_type="own", architectures=["Own"])
    _write(folder / "model" / "own.py", canary)


def _auto_map_of_a_tokenizer(folder: Path, canary: Canary) -> None:
    change_flavor(write_pipeline(folder), "transformers", tokenizer_type="Own")
    config = folder / "components" / "tokenizer" / "tokenizer_config.json"
    change_json(config, auto_map={"AutoTokenizer": ["own.Own", None]}, tokenizer_class="Own")
    _write(config.with_name("own.py"), canary)


def _other_flavor(folder: Path, canary: Canary) -> None:
    sklearn = {"pickled_model": "model.pkl", "serialization_format": "pickle", "code": None}
    loader = {"loader_module": "mlflow.sklearn", "model_path": "model.pkl", "predict_fn": "predict"}
    write_mlmodel(folder, python_function=loader, sklearn={**sklearn, "sklearn_version": "1.9.1"})
    (folder / "model.pkl").write_bytes(_pickle_canary(canary))


def _link_to_a_folder(folder: Path, canary: Canary) -> None:
    write_wrapper(folder)
    outside = folder.with_name(f"{folder.name}-outside")
    (folder / "code").rename(outside)
    _write(outside / "phi3_onnx_engine" / "slots.py", canary)
    (folder / "code").symlink_to(outside)


ATTACKS: dict[str, Callable[[Path, Canary], None]] = {
    build.__name__.strip("_"): build
    for build in (
        _cloudpickle,
        _models_from_code,
        _claims_to_be_ours,
        _one_line_more,
        _hostile_helper,
        _shadowed_import,
        _loader_disguised,
        _loader_beside_ours,
        _behind_a_link,
        _link_to_a_folder,
        _code_outside,
        _auto_map,
        _auto_map_of_a_tokenizer,
        _other_flavor,
    )
}


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[Pool]:
    admission = Admission(tmp_path / "loaded", Approvals(tmp_path / "trusted.json"))
    pool = Pool(tmp_path / "logs", 2, 60, admission.admit)
    yield pool
    pool.close()


def _create_canary(marks: Path, kind: str) -> Canary:
    return f"open({str(marks / kind)!r}, 'w').close()"


def _spec(folder: Path) -> ModelSpec:
    return ModelSpec(folder.name, folder.name, f"models:/{folder.name}", "prompt", "sqlite:///x.db", folder=str(folder))


def _refusal(pool: Pool, folder: Path) -> str:
    """Return the code of the error raised for selecting a model."""
    error = pool.get_model(_spec(folder)).ready.exception(timeout=120)
    assert isinstance(error, UserError)
    return error.code


@pytest.mark.server
def test_plain_mlflow_runs_every_attack(tmp_path: Path) -> None:
    """The control experiment: it shows that the attacks work."""
    marks = tmp_path / "sang"
    marks.mkdir()
    # MLflow loads the tokenizer after the weights, of which this model has none.
    kinds = ATTACKS.keys() - {"auto_map_of_a_tokenizer"}
    for kind in kinds:
        ATTACKS[kind](tmp_path / kind, _create_canary(marks, kind))
    program = """
import sys, mlflow
for folder in sys.argv[1:]:
    kept = [*sys.path], {*sys.modules}
    try:
        mlflow.pyfunc.load_model(folder)
    except BaseException as error:
        print(folder, repr(error)[:300], file=sys.stderr)
    sys.path[:] = kept[0]
    for name in {*sys.modules} - kept[1]:  # the next one has modules of the same names
        if not name.startswith(("mlflow", "transformers", "torch", "numpy", "sklearn", "scipy")):
            del sys.modules[name]
"""
    command = [sys.executable, "-c", program, *(str(tmp_path / kind) for kind in sorted(kinds))]
    variables = environment(tmp_path, PYTHONPATH=str(ROOT))
    result = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, check=False)

    assert {file.name for file in marks.iterdir()} == kinds, result.stderr


def test_the_app_runs_no_attack(pool: Pool, tmp_path: Path) -> None:
    marks = tmp_path / "sang"
    marks.mkdir()
    for kind, build in ATTACKS.items():
        build(tmp_path / kind, _create_canary(marks, kind))

    assert {kind: _refusal(pool, tmp_path / kind) for kind in ATTACKS} == dict.fromkeys(ATTACKS, "model_not_trusted")
    assert list(marks.iterdir()) == []
    assert not (tmp_path / "logs").exists() or not list((tmp_path / "logs").iterdir()), "no process was started"


@pytest.mark.parametrize("level", ["approved", "ours"])
def test_code_added_to_a_model_after_its_first_use_does_not_run(pool: Pool, tmp_path: Path, level: str) -> None:
    marks = tmp_path / "sang"
    marks.mkdir()
    admission = Admission(tmp_path / "loaded", Approvals(tmp_path / "trusted.json"))
    folder = tmp_path / "model"
    if level == "approved":
        _models_from_code(folder, "pass")
        admission.approvals.add(inspect_model(folder).fingerprint)
    else:
        write_wrapper(folder)
    with admission.admit(_spec(folder)):
        pass

    code = folder / ("model.py" if level == "approved" else WRAPPER)
    code.write_text(f"{_create_canary(marks, level)}\n{code.read_text()}")

    assert _refusal(pool, folder) == "model_not_trusted"
    assert list(marks.iterdir()) == []


def test_no_hostile_model_is_loadable(tmp_path: Path) -> None:
    admission = Admission(tmp_path / "loaded", Approvals(tmp_path / "trusted.json"))
    for kind, build in ATTACKS.items():
        build(tmp_path / kind, "pass")
        assert not admission.is_loadable(replace(ENTRY, folder=str(tmp_path / kind))), kind
