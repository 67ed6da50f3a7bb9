"""Log a Hugging Face checkpoint with MLflow's transformers flavour and task llm/v1/chat."""

import argparse
import gc
import json
import time
from pathlib import Path
from typing import Any

from models import prepare_program

if __name__ == "__main__":
    prepare_program()  # before the imports

import mlflow
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, Pipeline, pipeline

from models.checkpoint_facts import client_facts, require_known_kind, require_model, token_ids, weight_files
from models.linked_logging import linked_logging
from models.linking import symlink_or_copy
from models.model_card import read_model_card
from models.presets import Origin
from models.stage import Report, run_as_program
from models.tracking import (
    Logged,
    Store,
    add_store_arguments,
    folder_size,
    log_model,
    model_run,
    parse_origin,
    pin_versions,
    provenance,
    register_logged,
    store_from_arguments,
)

CONTRACT = "chat"
TASK = "llm/v1/chat"

# The same defaults as in the ONNX wrapper. Sampling must be enabled, or a request's temperature would have no effect.
_SAMPLING = {"max_new_tokens": 512, "do_sample": True, "temperature": 0.2, "top_p": 0.95}
# The chat template, rendered by the flavour, already writes BOS if the model expects it; the tokenizer must not add another.
MODEL_CONFIG = {**_SAMPLING, "add_special_tokens": False}


def log(  # noqa: PLR0913  # keyword-only options with defaults
    folder: Path, origin: Origin, store: Store, report: Report, *, measured: bool = True, registering: bool = True
) -> Logged:
    """Measure, log and register. Progress is in steps.

    Raises StageError: wrong_model_folder, no_chat_template, needs_remote_code.
    """
    # MLflow would mistake a relative path for a hub repository and request its card.
    folder = folder.absolute()
    require_model(folder, "checkpoint")
    require_known_kind(folder)
    facts, card = client_facts(folder), read_model_card(folder)
    generator = pipeline_without_weights(folder, facts["end_tokens"])
    report(0, 3)
    metrics = {"size_bytes": float(folder_size(folder)), **(measure(folder) if measured else {})}
    report(1, 3)
    name = origin.pipeline_name
    tags = {"contract": CONTRACT, "task": TASK, **origin.preset_tag}
    recorded = {**provenance(folder, origin), "precision": str(generator.model.dtype).removeprefix("torch.")}
    params = {
        **recorded,
        "measured": str(measured).lower(),
        "context_length": facts["context_length"],
        **dict(requirement.split("==") for requirement in pin_versions(["transformers", "torch", "mlflow"])),
    }
    described = {"title": origin.title, "license": origin.license, "summary": card.summary, "card_tags": [*card.tags]}
    with model_run(store, name, tags, params, metrics), linked_logging():
        logged = log_model(
            store,
            mlflow.transformers,
            name,
            tags,
            transformers_model=generator,
            task=TASK,
            model_config=MODEL_CONFIG,
            model_card=_load_hub_card(folder),
            # Without this the flavour looks for torchvision.
            pip_requirements=pin_versions(["mlflow", "transformers", "torch", "accelerate"]),
            metadata={"contract": CONTRACT, **recorded, **described, **facts},
        )
    report(2, 3)
    logged = register_logged(logged, store) if registering else logged
    report(3, 3)
    return logged


def pipeline_without_weights(folder: Path, end_tokens: list[str]) -> Pipeline:
    """Create the checkpoint's text-generation pipeline without loading its weights; saving it links the checkpoint's files.

    Otherwise the flavour would load the weights into memory and write them again. The saved model declares `end_tokens`.
    """
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    if hasattr(config, "auto_map"):  # MLflow would run the code named there, which is not saved
        del config.auto_map
    config.dtype = config.dtype or _find_stored_dtype(folder)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=config.dtype, trust_remote_code=False)
    config.architectures = [type(model).__name__]

    def save_pretrained(save_directory: Path, **_: Any) -> None:
        save_directory.mkdir(parents=True)
        config.save_pretrained(save_directory)
        generation = _build_generation_config(folder, config, token_ids(folder, end_tokens))
        (save_directory / "generation_config.json").write_text(
            json.dumps(generation, indent=2) + "\n", encoding="utf-8"
        )
        files = [*weight_files(folder), *folder.glob("*.index.json"), *folder.glob("LICENSE*")]
        for file in files:
            symlink_or_copy(file, save_directory / file.name)

    model.save_pretrained = save_pretrained
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    return pipeline("text-generation", model=model, tokenizer=tokenizer, device="meta")


def _load_hub_card(folder: Path) -> Any:
    """Load the folder's model card for the flavour; None if there is none or it cannot be parsed."""
    from huggingface_hub import ModelCard
    from yaml import YAMLError  # type: ignore[import-untyped]

    file = folder / "README.md"
    try:
        return ModelCard.load(file) if file.is_file() else None
    except (ValueError, YAMLError):
        return None


def _build_generation_config(folder: Path, config: Any, end_ids: list[int]) -> dict[str, Any]:
    file = folder / "generation_config.json"
    if file.is_file():
        named = json.loads(file.read_text(encoding="utf-8"))
    else:
        named = {"bos_token_id": config.bos_token_id, "pad_token_id": config.pad_token_id}
    return {name: value for name, value in named.items() if value is not None} | {"eos_token_id": end_ids}


def _find_stored_dtype(folder: Path) -> torch.dtype:
    """Return the dtype of the first floating-point tensor, for a config.json without dtype; transformers does the same."""
    from safetensors import safe_open

    for file in weight_files(folder):
        with safe_open(file, "pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 (it is not a dict)
                dtype: torch.dtype = tensors.get_slice(name)[:0].dtype
                if dtype.is_floating_point:
                    return dtype
    return torch.float32


def measure(folder: Path) -> dict[str, float]:
    """Measure load_seconds, and tokens_per_second over 32 tokens; then free the model."""
    start = time.perf_counter()
    model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=False)
    AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    load_seconds = time.perf_counter() - start
    prompt = torch.tensor([[model.config.bos_token_id or 0]])
    start = time.perf_counter()
    model.generate(
        prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=32, min_new_tokens=32, do_sample=False
    )
    seconds = time.perf_counter() - start
    del model
    gc.collect()
    return {"load_seconds": load_seconds, "tokens_per_second": 32 / seconds}


def _work(arguments: argparse.Namespace, report: Report) -> dict[str, Any]:
    logged = log(
        arguments.folder,
        parse_origin(arguments),
        store_from_arguments(arguments),
        report,
        measured=arguments.measure,
        registering=arguments.register,
    )
    return logged.result()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Log a Hugging Face checkpoint as an MLflow transformers model.")
    add_store_arguments(parser)
    run_as_program(_work, parser)
