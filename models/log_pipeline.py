"""Log a Hugging Face checkpoint as MLflow's transformers flavour makes it, with task llm/v1/chat."""

import argparse
import time
from pathlib import Path
from typing import Any

import mlflow
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, Pipeline, pipeline

from models.checkpoint_facts import client_facts
from models.presets import Origin
from models.stage import Report, run_as_program
from models.tracking import Store, add_store_arguments, model_run, origin_of, pinned, size_of

CONTRACT = "chat"
TASK = "llm/v1/chat"

# What a request does not name. Sampling must be on here for a request's temperature to count;
# the values are those of the ONNX wrapper.
MODEL_CONFIG = {"max_new_tokens": 512, "do_sample": True, "temperature": 0.2, "top_p": 0.95}


def log(folder: Path, origin: Origin, store: Store, report: Report) -> str:
    """Measure, then log; the id of the new logged model. Progress in steps."""
    report(0, 2)
    generator, metrics = load_and_measure(folder)
    report(1, 2)
    facts = client_facts(folder)
    name = origin.pipeline_name
    tags = {"contract": CONTRACT, "task": TASK, **origin.preset_tag}
    params = {
        **origin.preset_tag,
        "source": origin.source,
        "precision": str(generator.model.dtype).removeprefix("torch."),
        "context_length": facts["context_length"],
        **dict(requirement.split("==") for requirement in pinned(["transformers", "torch", "mlflow"])),
    }
    with model_run(store, name, tags, params, metrics):
        logged = mlflow.transformers.log_model(
            transformers_model=generator,
            name=name,
            task=TASK,
            model_config=MODEL_CONFIG,
            # Left to itself the flavour looks for torchvision.
            pip_requirements=pinned(["mlflow", "transformers", "torch", "accelerate"]),
            metadata={"contract": CONTRACT, "title": origin.title, "license": origin.license, **facts},
            tags=tags,
        )
    report(2, 2)
    return str(logged.model_id)


def load_and_measure(folder: Path) -> tuple[Pipeline, dict[str, float]]:
    """The text-generation pipeline of a checkpoint, with size_bytes, load_seconds and tokens_per_second of 32 tokens."""
    start = time.perf_counter()
    model = AutoModelForCausalLM.from_pretrained(folder)
    generator = pipeline("text-generation", model=model, tokenizer=AutoTokenizer.from_pretrained(folder))
    load_seconds = time.perf_counter() - start
    prompt = torch.tensor([[model.config.bos_token_id or 0]])
    start = time.perf_counter()
    model.generate(
        prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=32, min_new_tokens=32, do_sample=False
    )
    seconds = time.perf_counter() - start
    metrics = {"size_bytes": float(size_of(folder)), "load_seconds": load_seconds, "tokens_per_second": 32 / seconds}
    return generator, metrics


def _work(arguments: argparse.Namespace, report: Report) -> dict[str, Any]:
    store = Store(arguments.tracking_uri, arguments.artifacts)
    return {"model_id": log(arguments.folder, origin_of(arguments), store, report)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Log a Hugging Face checkpoint as an MLflow transformers model.")
    add_store_arguments(parser)
    run_as_program(_work, parser)
