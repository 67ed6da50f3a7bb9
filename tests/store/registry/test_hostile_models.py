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

Song = str
"""A Python statement that writes the canary's file."""


class _Singing:
    """Triggers the canary when it is unpickled."""

    def __init__(self, song: Song) -> None:
        self._song = song

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return exec, (self._song,)


def _pickled(song: Song) -> bytes:
    return pickle.dumps(_Singing(song))


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def _cloudpickle(folder: Path, song: Song) -> None:
    entries = {"cloudpickle_version": "3.1.2", "python_model": "python_model.pkl"}
    write_mlmodel(folder, python_function={"loader_module": "mlflow.pyfunc.model", **entries})
    (folder / "python_model.pkl").write_bytes(_pickled(song))


def _models_from_code(folder: Path, song: Song) -> None:
    loader = "mlflow.pyfunc.loaders.code_model"
    write_mlmodel(folder, python_function={"loader_module": loader, "model_code_path": "model.py"})
    _write(folder / "model.py", song)


def _claims_to_be_ours(folder: Path, song: Song) -> None:
    _write(write_wrapper(folder) / WRAPPER, song)


def _one_line_more(folder: Path, song: Song) -> None:
    wrapper = write_wrapper(folder) / WRAPPER
    source = wrapper.read_text()
    first_import = source.index("\nimport ")
    _write(wrapper, f"{source[:first_import]}\n{song}{source[first_import:]}")


def _hostile_helper(folder: Path, song: Song) -> None:
    _write(write_wrapper(folder) / "code" / "phi3_onnx_engine" / "slots.py", song)


def _shadowed_import(folder: Path, song: Song) -> None:
    _write(write_wrapper(folder) / "code" / "tokenizers.py", song)


def _loader_disguised(folder: Path, song: Song) -> None:
    change_flavor(write_pipeline(folder), "python_function", loader_module="transformers_loader", code="code")
    _write(folder / "code" / "transformers_loader.py", song)


def _loader_beside_ours(folder: Path, song: Song) -> None:
    change_flavor(write_wrapper(folder), "python_function", loader_module="loader")
    _write(folder / "code" / "loader.py", song)


def _behind_a_link(folder: Path, song: Song) -> None:
    write_wrapper(folder)
    outside = folder.with_name(f"{folder.name}-outside.py")
    _write(outside, song)
    (folder / WRAPPER).unlink()
    (folder / WRAPPER).symlink_to(outside)


def _code_outside(folder: Path, song: Song) -> None:
    outside = folder.with_name(f"{folder.name}-outside")
    _write(outside / "own_loader.py", song)
    change_flavor(write_pipeline(folder), "python_function", loader_module="own_loader", code=f"../{outside.name}")


def _auto_map(folder: Path, song: Song) -> None:
    change_flavor(write_pipeline(folder), "transformers", pipeline_model_type="Own")
    auto_map = {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Own"}
    change_json(folder / "model" / "config.json", auto_map=auto_map, model_type="own", architectures=["Own"])
    _write(folder / "model" / "own.py", song)


def _auto_map_of_a_tokenizer(folder: Path, song: Song) -> None:
    change_flavor(write_pipeline(folder), "transformers", tokenizer_type="Own")
    config = folder / "components" / "tokenizer" / "tokenizer_config.json"
    change_json(config, auto_map={"AutoTokenizer": ["own.Own", None]}, tokenizer_class="Own")
    _write(config.with_name("own.py"), song)


def _other_flavor(folder: Path, song: Song) -> None:
    sklearn = {"pickled_model": "model.pkl", "serialization_format": "pickle", "code": None}
    loader = {"loader_module": "mlflow.sklearn", "model_path": "model.pkl", "predict_fn": "predict"}
    write_mlmodel(folder, python_function=loader, sklearn={**sklearn, "sklearn_version": "1.9.1"})
    (folder / "model.pkl").write_bytes(_pickled(song))


def _link_to_a_folder(folder: Path, song: Song) -> None:
    write_wrapper(folder)
    outside = folder.with_name(f"{folder.name}-outside")
    (folder / "code").rename(outside)
    _write(outside / "phi3_onnx_engine" / "slots.py", song)
    (folder / "code").symlink_to(outside)


KINDS: dict[str, Callable[[Path, Song], None]] = {
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


def _song(place: Path, kind: str) -> Song:
    return f"open({str(place / kind)!r}, 'w').close()"


def _spec(folder: Path) -> ModelSpec:
    return ModelSpec(folder.name, folder.name, f"models:/{folder.name}", "prompt", "sqlite:///x.db", folder=str(folder))


def _refusal(pool: Pool, folder: Path) -> str:
    """Return the code of the error raised for selecting a model."""
    error = pool.get_model(_spec(folder)).ready.exception(timeout=120)
    assert isinstance(error, UserError)
    return error.code


@pytest.mark.server
def test_plain_mlflow_runs_every_one_of_them(tmp_path: Path) -> None:
    """This shows that the attacks work."""
    sang = tmp_path / "sang"
    sang.mkdir()
    # MLflow loads the tokenizer after the weights, of which this model has none.
    kinds = KINDS.keys() - {"auto_map_of_a_tokenizer"}
    for kind in kinds:
        KINDS[kind](tmp_path / kind, _song(sang, kind))
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
    done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, check=False)

    assert {file.name for file in sang.iterdir()} == kinds, done.stderr


def test_the_app_runs_none_of_them(pool: Pool, tmp_path: Path) -> None:
    sang = tmp_path / "sang"
    sang.mkdir()
    for kind, build in KINDS.items():
        build(tmp_path / kind, _song(sang, kind))

    assert {kind: _refusal(pool, tmp_path / kind) for kind in KINDS} == dict.fromkeys(KINDS, "model_not_trusted")
    assert list(sang.iterdir()) == []
    assert not (tmp_path / "logs").exists() or not list((tmp_path / "logs").iterdir()), "no process was started"


@pytest.mark.parametrize("level", ["approved", "ours"])
def test_what_is_put_into_a_model_after_its_first_use_does_not_run(pool: Pool, tmp_path: Path, level: str) -> None:
    sang = tmp_path / "sang"
    sang.mkdir()
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
    code.write_text(f"{_song(sang, level)}\n{code.read_text()}")

    assert _refusal(pool, folder) == "model_not_trusted"
    assert list(sang.iterdir()) == []


def test_none_of_them_is_the_one_that_a_page_opens_with(tmp_path: Path) -> None:
    admission = Admission(tmp_path / "loaded", Approvals(tmp_path / "trusted.json"))
    for kind, build in KINDS.items():
        build(tmp_path / kind, "pass")
        assert not admission.is_loadable(replace(ENTRY, folder=str(tmp_path / kind))), kind
