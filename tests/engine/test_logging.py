"""Logging a folder: what the run and the model record, that nothing is held twice, and which folders are refused."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.entities import LoggedModelStatus

from models import log_onnx, log_pipeline
from models.checkpoint_facts import token_ids
from models.log_pipeline import pipeline_without_weights
from models.presets import Origin
from models.stage import StageError
from models.tracking import Logged, Store
from phi3_ui.paths import ROOT
from tests.conftest import Weights
from tests.support.build_cache import create_store

ORIGIN = Origin(preset="", name="tiny", title="Tiny", source="someone/tiny", license="mit")
MEGABYTE = 1 << 20

pytestmark = pytest.mark.filterwarnings("ignore:.*input example:UserWarning")


def nothing(_done: int, _total: int) -> None: ...


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    home = tmp_path_factory.mktemp("home")
    return Store(create_store(home), (home / "artifacts").as_uri())


@pytest.fixture(scope="module")
def checkpoint(tiny_checkpoint: Path) -> Path:
    return tiny_checkpoint


def copy_of(folder: Path, target: Path) -> Path:
    """A folder of links that a test may add files to, or replace files in."""
    shutil.copytree(folder, target, copy_function=os.link)
    return target


def edit(file: Path, **fields: Any) -> None:
    """Set fields of a JSON file; None removes one. The file is written anew, for others may have it linked."""
    content = {**json.loads(file.read_text(encoding="utf-8")), **fields}
    file.unlink()
    file.write_text(json.dumps({key: value for key, value in content.items() if value is not None}), encoding="utf-8")


def log_tiny(checkpoint: Path, store: Store) -> Logged:
    return log_pipeline.log(checkpoint, ORIGIN, store, nothing, measured=False, registering=False)


def files_of(logged: Logged, store: Store) -> Path:
    mlflow.set_tracking_uri(store.tracking_uri)
    return Path(mlflow.artifacts.download_artifacts(f"models:/{logged.model_id}"))


def run_of(logged: Logged, store: Store) -> Any:
    client = MlflowClient(store.tracking_uri)
    run_id = client.get_logged_model(logged.model_id).source_run_id
    assert run_id
    return client.get_run(run_id)


def test_a_pipeline_is_stored_as_the_flavour_stores_it_from_memory(
    checkpoint: Path, store: Store, tmp_path: Path
) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline

    logged = log_tiny(checkpoint, store)

    model = AutoModelForCausalLM.from_pretrained(checkpoint)
    generator = pipeline("text-generation", model=model, tokenizer=AutoTokenizer.from_pretrained(checkpoint))
    plain = tmp_path / "plain"
    mlflow.transformers.save_model(
        generator, plain, task="llm/v1/chat", model_config=log_pipeline.MODEL_CONFIG, pip_requirements=["mlflow"]
    )
    flavors, wanted = (mlflow.models.Model.load(path) for path in (files_of(logged, store), plain))
    assert flavors.flavors == wanted.flavors
    assert flavors.signature == wanted.signature
    stored = files_of(logged, store) / "model"
    assert (stored / "model.safetensors").read_bytes() == (plain / "model" / "model.safetensors").read_bytes()
    configs = [json.loads((folder / "config.json").read_text(encoding="utf-8")) for folder in (stored, plain / "model")]
    assert configs[0] == {name: value for name, value in configs[1].items() if name != "auto_map"}
    loaded = mlflow.transformers.load_model(f"models:/{logged.model_id}")
    assert loaded.model.dtype == torch.float32
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], tensor)


def test_all_that_ends_an_answer_is_stored_and_the_source_is_left_as_it_was(checkpoint: Path, store: Store) -> None:
    before = {file.name: file.read_bytes() for file in checkpoint.iterdir()}

    logged = log_tiny(checkpoint, store)

    ends = ["<|endoftext|>", "<|end|>"]
    info = mlflow.models.get_model_info(f"models:/{logged.model_id}")
    assert info.metadata
    assert info.metadata["end_tokens"] == ends
    generation = json.loads((files_of(logged, store) / "model" / "generation_config.json").read_text(encoding="utf-8"))
    assert generation["eos_token_id"] == token_ids(checkpoint, ends)
    assert len(generation["eos_token_id"]) == 2
    assert {file.name: file.read_bytes() for file in checkpoint.iterdir()} == before


def test_code_that_a_checkpoint_names_is_neither_run_nor_named_in_the_store(
    checkpoint: Path, tmp_path: Path, store: Store
) -> None:
    folder = copy_of(checkpoint, tmp_path / "checkpoint")
    edit(folder / "config.json", auto_map={"AutoModelForCausalLM": "modeling.Phi3ForCausalLM"})
    (folder / "modeling.py").write_text("raise SystemExit('this code ran')\n", encoding="utf-8")

    logged = log_tiny(folder, store)

    stored = files_of(logged, store)
    assert "auto_map" not in json.loads((stored / "model" / "config.json").read_text(encoding="utf-8"))
    assert list(stored.rglob("*.py")) == []
    assert mlflow.transformers.load_model(f"models:/{logged.model_id}").model.config.model_type == "phi3"


@pytest.mark.parametrize("named", [True, False], ids=["named", "from the tensors"])
def test_half_precision_stays_what_it_is(tmp_path: Path, store: Store, checkpoint: Path, named: bool) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    folder = tmp_path / "half"
    AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.bfloat16).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(checkpoint / name, folder)
    if not named:
        edit(folder / "config.json", dtype=None)

    logged = log_tiny(folder, store)

    assert run_of(logged, store).data.params["precision"] == "bfloat16"
    assert mlflow.transformers.load_model(f"models:/{logged.model_id}").model.dtype == torch.bfloat16


def test_weights_in_several_files_are_all_stored(tmp_path: Path, store: Store, checkpoint: Path) -> None:
    from transformers import AutoModelForCausalLM

    folder = tmp_path / "sharded"
    AutoModelForCausalLM.from_pretrained(checkpoint).save_pretrained(folder, max_shard_size="300KB")
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(checkpoint / name, folder)
    assert len(list(folder.glob("*.safetensors"))) > 1

    logged = log_tiny(folder, store)

    stored = files_of(logged, store) / "model"
    assert {file.name for file in stored.glob("model*")} == {file.name for file in folder.glob("model*")}
    assert mlflow.transformers.load_model(f"models:/{logged.model_id}").model.num_parameters() > 0


@pytest.mark.parametrize("contract", ["chat", "prompt"])
def test_the_weights_are_in_the_store_once_as_the_very_files_of_the_source(
    weights: Weights, store: Store, contract: str
) -> None:
    if contract == "chat":
        source, name = weights.checkpoint, "model.safetensors"
        logged = log_pipeline.log(source, ORIGIN, store, nothing, measured=False, registering=False)
    else:
        source, name = weights.onnx, "model.onnx.data"
        logged = log_onnx.log(source, ORIGIN, "int8", store, nothing, measured=False, registering=False)

    (stored,) = files_of(logged, store).rglob(name)
    assert stored.samefile(source / name)
    assert run_of(logged, store).data.params["measured"] == "false"
    assert set(run_of(logged, store).data.metrics) == {"size_bytes"}


# The last line that it writes is the peak of its resident memory, in bytes. A stage keeps standard output for itself.
_PEAK = """
import runpy, sys
sys.argv = sys.argv[1:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
import resource
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024), file=sys.stderr)
"""


def peak_of_logging(folder: Path, store: Store) -> int:
    """Bytes of memory that the program takes to log the checkpoint in `folder` without measuring."""
    arguments = ["models.log_pipeline", "--folder", str(folder), "--name", "weighed", "--no-measure", "--no-register"]
    command = [sys.executable, "-c", _PEAK, *arguments, "--tracking-uri", store.tracking_uri]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return int(done.stderr.splitlines()[-1])


def test_the_memory_that_logging_takes_does_not_grow_with_the_weights(
    checkpoint: Path, weights: Weights, store: Store
) -> None:
    store.experiment_id()  # made with a place for its files, which the program is not told
    small = peak_of_logging(checkpoint, store)
    large = peak_of_logging(weights.checkpoint, store)

    assert (weights.checkpoint / "model.safetensors").stat().st_size > 500 * MEGABYTE
    assert large - small < 100 * MEGABYTE  # its tokenizer is larger too


def test_a_run_tells_where_the_weights_come_from(checkpoint: Path, tmp_path: Path, store: Store) -> None:
    folder = copy_of(checkpoint, tmp_path / "checkpoint")
    record = {"repo": "owner/tiny", "revision": "v1", "folder": "", "commit": "c0ffee"}
    (folder / "hub.json").write_text(json.dumps(record), encoding="utf-8")

    logged = log_tiny(folder, store)

    params = run_of(logged, store).data.params
    assert {name: params.get(name) for name in ("source", "revision", "commit", "subfolder")} == {
        "source": "owner/tiny",
        "revision": "v1",
        "commit": "c0ffee",
        "subfolder": None,
    }
    assert list(files_of(logged, store).rglob("hub.json")) == []
    assert (files_of(logged, store) / "model" / "LICENSE").exists()


@pytest.mark.parametrize("device", ["cpu", "cuda", "directml"])
def test_an_onnx_model_is_measured_only_where_its_device_is_here(weights: Weights, store: Store, device: Any) -> None:
    import onnxruntime_genai as og

    here = {"cpu": True, "cuda": og.is_cuda_available(), "directml": og.is_dml_available()}[device]

    logged = log_onnx.log(weights.onnx, ORIGIN, "int8", store, nothing, device=device, registering=False)

    run = run_of(logged, store)
    assert run.data.params["device"] == device
    assert run.data.params["measured"] == str(here).lower()
    assert ("tokens_per_second" in run.data.metrics) is here


def test_the_onnx_model_declares_its_code_and_its_ends(weights: Weights, store: Store) -> None:
    logged = log_onnx.log(weights.onnx, ORIGIN, "int8", store, nothing, measured=False, registering=False)

    info = mlflow.models.get_model_info(f"models:/{logged.model_id}")
    code = [files_of(logged, store) / file for file in ("phi3_onnx.py", "code/phi3_onnx_slots.py")]
    assert info.metadata
    assert info.metadata["wrapper_sha256"] == hashlib.sha256(b"".join(map(Path.read_bytes, code))).hexdigest()
    assert info.flavors["python_function"]["config"] == {
        "end_tokens": ["<|im_end|>"],
        "threads": 0,
        "cache_mb": 0,
    }


def test_inside_an_mlflow_run_the_model_belongs_to_that_run(
    checkpoint: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = MlflowClient(store.tracking_uri)
    experiment = client.create_experiment("somebody's", artifact_location=store.artifacts)
    run = client.create_run(experiment, run_name="theirs")
    monkeypatch.setenv("MLFLOW_RUN_ID", run.info.run_id)
    # The process of an `mlflow run` is a fresh one; in this one an earlier test may have chosen an experiment.
    monkeypatch.setattr("mlflow.tracking.fluent._active_experiment_id", None)

    logged = log_tiny(checkpoint, store)

    model = client.get_logged_model(logged.model_id)
    assert (model.source_run_id, model.experiment_id) == (run.info.run_id, experiment)
    found = client.search_runs([experiment])
    assert [one.info.run_id for one in found] == [run.info.run_id]
    assert found[0].info.run_name == "theirs"
    assert found[0].data.params["context_length"] == "4096"


def test_an_experiment_may_be_named(checkpoint: Path, store: Store) -> None:
    named = Store(store.tracking_uri, store.artifacts, "comparisons")

    logged = log_tiny(checkpoint, named)

    client = MlflowClient(store.tracking_uri)
    assert client.get_experiment(run_of(logged, store).info.experiment_id).name == "comparisons"
    assert client.get_logged_model(logged.model_id).status == LoggedModelStatus.READY


def test_what_is_logged_holds_no_weights_in_memory(weights: Weights) -> None:
    generator = pipeline_without_weights(weights.checkpoint, ["<|im_end|>"])

    assert {parameter.device.type for parameter in generator.model.parameters()} == {"meta"}


def test_a_folder_of_another_kind_is_refused_before_anything_is_logged(
    checkpoint: Path, weights: Weights, store: Store
) -> None:
    with pytest.raises(StageError) as no_checkpoint:
        log_tiny(weights.onnx, store)
    with pytest.raises(StageError) as no_onnx:
        log_onnx.log(checkpoint, ORIGIN, "int8", store, nothing)

    assert (no_checkpoint.value.code, no_checkpoint.value.values["missing"]) == ("wrong_model_folder", "config.json")
    assert (no_onnx.value.code, no_onnx.value.values["missing"]) == ("wrong_model_folder", "genai_config.json")
