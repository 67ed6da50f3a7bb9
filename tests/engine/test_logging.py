"""Logging a folder: recorded metadata, weights that are neither copied nor loaded into memory, and rejected folders."""

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


def ignore_progress(_done: int, _total: int) -> None: ...


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    home = tmp_path_factory.mktemp("home")
    return Store(create_store(home), (home / "artifacts").as_uri())


@pytest.fixture(scope="module")
def checkpoint(tiny_checkpoint: Path) -> Path:
    return tiny_checkpoint


def link_folder(folder: Path, target: Path) -> Path:
    """Copy a folder as hard links, so that a test may add or replace files."""
    shutil.copytree(folder, target, copy_function=os.link)
    return target


def edit_json(file: Path, **fields: Any) -> None:
    """Set fields of a JSON file; None removes one. Replace the file, since it may be a hard link."""
    content = {**json.loads(file.read_text(encoding="utf-8")), **fields}
    file.unlink()
    file.write_text(json.dumps({key: value for key, value in content.items() if value is not None}), encoding="utf-8")


def log_tiny(checkpoint: Path, store: Store) -> Logged:
    return log_pipeline.log(checkpoint, ORIGIN, store, ignore_progress, measured=False, registering=False)


def download_files(logged: Logged, store: Store) -> Path:
    mlflow.set_tracking_uri(store.tracking_uri)
    return Path(mlflow.artifacts.download_artifacts(f"models:/{logged.model_id}"))


def get_run(logged: Logged, store: Store) -> Any:
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
    actual, expected = (mlflow.models.Model.load(path) for path in (download_files(logged, store), plain))
    assert actual.flavors == expected.flavors
    assert actual.signature == expected.signature
    stored = download_files(logged, store) / "model"
    assert (stored / "model.safetensors").read_bytes() == (plain / "model" / "model.safetensors").read_bytes()
    configs = [json.loads((folder / "config.json").read_text(encoding="utf-8")) for folder in (stored, plain / "model")]
    assert configs[0] == {name: value for name, value in configs[1].items() if name != "auto_map"}
    loaded = mlflow.transformers.load_model(f"models:/{logged.model_id}")
    assert loaded.model.dtype == torch.float32
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], tensor)


def test_all_end_tokens_are_stored_and_the_source_folder_is_unchanged(checkpoint: Path, store: Store) -> None:
    before = {file.name: file.read_bytes() for file in checkpoint.iterdir()}

    logged = log_tiny(checkpoint, store)

    ends = ["<|endoftext|>", "<|end|>"]
    info = mlflow.models.get_model_info(f"models:/{logged.model_id}")
    assert info.metadata
    assert info.metadata["end_tokens"] == ends
    generation = json.loads(
        (download_files(logged, store) / "model" / "generation_config.json").read_text(encoding="utf-8")
    )
    assert generation["eos_token_id"] == token_ids(checkpoint, ends)
    assert len(generation["eos_token_id"]) == 2
    assert {file.name: file.read_bytes() for file in checkpoint.iterdir()} == before


def test_remote_code_of_a_checkpoint_is_neither_run_nor_referenced_in_the_store(
    checkpoint: Path, tmp_path: Path, store: Store
) -> None:
    folder = link_folder(checkpoint, tmp_path / "checkpoint")
    edit_json(folder / "config.json", auto_map={"AutoModelForCausalLM": "modeling.Phi3ForCausalLM"})
    (folder / "modeling.py").write_text("raise SystemExit('this code ran')\n", encoding="utf-8")

    logged = log_tiny(folder, store)

    stored = download_files(logged, store)
    assert "auto_map" not in json.loads((stored / "model" / "config.json").read_text(encoding="utf-8"))
    assert list(stored.rglob("*.py")) == []
    assert mlflow.transformers.load_model(f"models:/{logged.model_id}").model.config.model_type == "phi3"


@pytest.mark.parametrize("is_declared", [True, False], ids=["declared", "from the tensors"])
def test_half_precision_is_preserved(tmp_path: Path, store: Store, checkpoint: Path, is_declared: bool) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    folder = tmp_path / "half"
    AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.bfloat16).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(checkpoint / name, folder)
    if not is_declared:
        edit_json(folder / "config.json", dtype=None)

    logged = log_tiny(folder, store)

    assert get_run(logged, store).data.params["precision"] == "bfloat16"
    assert mlflow.transformers.load_model(f"models:/{logged.model_id}").model.dtype == torch.bfloat16


def test_sharded_weights_are_stored_completely(tmp_path: Path, store: Store, checkpoint: Path) -> None:
    from transformers import AutoModelForCausalLM

    folder = tmp_path / "sharded"
    AutoModelForCausalLM.from_pretrained(checkpoint).save_pretrained(folder, max_shard_size="300KB")
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(checkpoint / name, folder)
    assert len(list(folder.glob("*.safetensors"))) > 1

    logged = log_tiny(folder, store)

    stored = download_files(logged, store) / "model"
    assert {file.name for file in stored.glob("model*")} == {file.name for file in folder.glob("model*")}
    assert mlflow.transformers.load_model(f"models:/{logged.model_id}").model.num_parameters() > 0


@pytest.mark.parametrize("contract", ["chat", "prompt"])
def test_the_stored_weights_are_hard_links_to_the_source_files(weights: Weights, store: Store, contract: str) -> None:
    if contract == "chat":
        source, name = weights.checkpoint, "model.safetensors"
        logged = log_pipeline.log(source, ORIGIN, store, ignore_progress, measured=False, registering=False)
    else:
        source, name = weights.onnx, "model.onnx.data"
        logged = log_onnx.log(source, ORIGIN, "int8", store, ignore_progress, measured=False, registering=False)

    (stored,) = download_files(logged, store).rglob(name)
    assert stored.samefile(source / name)
    assert get_run(logged, store).data.params["measured"] == "false"
    assert set(get_run(logged, store).data.metrics) == {"size_bytes"}


# Prints the peak resident memory in bytes as the last line of stderr, since stages reserve stdout for their result.
_PEAK_MEMORY_PROGRAM = """
import runpy, sys
sys.argv = sys.argv[1:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
import resource
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024), file=sys.stderr)
"""


def measure_peak_memory(folder: Path, store: Store) -> int:
    """Return the peak memory, in bytes, of the program that logs the checkpoint in `folder` without measuring speed."""
    arguments = ["models.log_pipeline", "--folder", str(folder), "--name", "weighed", "--no-measure", "--no-register"]
    command = [sys.executable, "-c", _PEAK_MEMORY_PROGRAM, *arguments, "--tracking-uri", store.tracking_uri]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert process.returncode == 0, process.stdout + process.stderr
    return int(process.stderr.splitlines()[-1])


def test_memory_use_of_logging_does_not_grow_with_the_weights(checkpoint: Path, weights: Weights, store: Store) -> None:
    store.experiment_id()  # creates the experiment with an artifact location, which the program does not know
    small = measure_peak_memory(checkpoint, store)
    large = measure_peak_memory(weights.checkpoint, store)

    assert (weights.checkpoint / "model.safetensors").stat().st_size > 500 * MEGABYTE
    assert large - small < 100 * MEGABYTE  # the tokenizer is larger too


def test_a_run_records_the_origin_of_the_weights(checkpoint: Path, tmp_path: Path, store: Store) -> None:
    folder = link_folder(checkpoint, tmp_path / "checkpoint")
    record = {"repo": "owner/tiny", "revision": "v1", "folder": "", "commit": "c0ffee"}
    (folder / "hub.json").write_text(json.dumps(record), encoding="utf-8")

    logged = log_tiny(folder, store)

    params = get_run(logged, store).data.params
    assert {name: params.get(name) for name in ("source", "revision", "commit", "subfolder")} == {
        "source": "owner/tiny",
        "revision": "v1",
        "commit": "c0ffee",
        "subfolder": None,
    }
    assert list(download_files(logged, store).rglob("hub.json")) == []
    assert (download_files(logged, store) / "model" / "LICENSE").exists()


@pytest.mark.parametrize("device", ["cpu", "cuda", "directml"])
def test_an_onnx_model_is_measured_only_if_its_device_is_available(weights: Weights, store: Store, device: Any) -> None:
    import onnxruntime_genai as og

    is_available = {"cpu": True, "cuda": og.is_cuda_available(), "directml": og.is_dml_available()}[device]

    logged = log_onnx.log(weights.onnx, ORIGIN, "int8", store, ignore_progress, device=device, registering=False)

    run = get_run(logged, store)
    assert run.data.params["device"] == device
    assert run.data.params["measured"] == str(is_available).lower()
    assert ("tokens_per_second" in run.data.metrics) is is_available


def test_the_onnx_model_declares_its_code_and_its_end_tokens(weights: Weights, store: Store) -> None:
    logged = log_onnx.log(weights.onnx, ORIGIN, "int8", store, ignore_progress, measured=False, registering=False)

    info = mlflow.models.get_model_info(f"models:/{logged.model_id}")
    stored = download_files(logged, store)
    code = [stored / "phi3_onnx.py", *sorted((stored / "code").rglob("*.py"))]
    assert info.metadata
    assert info.metadata["wrapper_sha256"] == hashlib.sha256(b"".join(map(Path.read_bytes, code))).hexdigest()
    assert info.metadata["code_files"] == [file.relative_to(stored).as_posix() for file in code]
    assert info.flavors["python_function"]["config"] == {
        "end_tokens": ["<|im_end|>"],
        "threads": 0,
        "cache_mb": 0,
        "engine": "genai",
    }


def test_within_an_mlflow_run_the_model_belongs_to_that_run(
    checkpoint: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = MlflowClient(store.tracking_uri)
    experiment = client.create_experiment("somebody's", artifact_location=store.artifacts)
    run = client.create_run(experiment, run_name="theirs")
    monkeypatch.setenv("MLFLOW_RUN_ID", run.info.run_id)
    # `mlflow run` starts a new process; in this one an earlier test may have set an experiment.
    monkeypatch.setattr("mlflow.tracking.fluent._active_experiment_id", None)

    logged = log_tiny(checkpoint, store)

    model = client.get_logged_model(logged.model_id)
    assert (model.source_run_id, model.experiment_id) == (run.info.run_id, experiment)
    runs = client.search_runs([experiment])
    assert [found.info.run_id for found in runs] == [run.info.run_id]
    assert runs[0].info.run_name == "theirs"
    assert runs[0].data.params["context_length"] == "4096"


def test_the_experiment_can_be_chosen(checkpoint: Path, store: Store) -> None:
    named = Store(store.tracking_uri, store.artifacts, "comparisons")

    logged = log_tiny(checkpoint, named)

    client = MlflowClient(store.tracking_uri)
    assert client.get_experiment(get_run(logged, store).info.experiment_id).name == "comparisons"
    assert client.get_logged_model(logged.model_id).status == LoggedModelStatus.READY


def test_the_object_to_log_holds_no_weights_in_memory(weights: Weights) -> None:
    generator = pipeline_without_weights(weights.checkpoint, ["<|im_end|>"])

    assert {parameter.device.type for parameter in generator.model.parameters()} == {"meta"}


def test_a_folder_of_the_wrong_kind_is_rejected_before_anything_is_logged(
    checkpoint: Path, weights: Weights, store: Store
) -> None:
    with pytest.raises(StageError) as pipeline_error:
        log_tiny(weights.onnx, store)
    with pytest.raises(StageError) as onnx_error:
        log_onnx.log(checkpoint, ORIGIN, "int8", store, ignore_progress)

    assert (pipeline_error.value.code, pipeline_error.value.values["missing"]) == ("wrong_model_folder", "config.json")
    assert (onnx_error.value.code, onnx_error.value.values["missing"]) == ("wrong_model_folder", "genai_config.json")
