"""Checks whether a model of the transformers flavour consists of data only."""

import re
from collections.abc import Iterator
from functools import partial
from typing import Any

from phi3_ui.store.registry.fingerprint import FolderListing, ModelFile
from phi3_ui.store.registry.suspects import (
    SAFETENSORS,
    Entry,
    Reason,
    Suspect,
    check_flavors,
    check_json,
    check_keys,
    check_names,
    list_entries,
)

# Files whose keys are words or tokens, and which are too large to search; they are not configurations.
_VOCABULARIES = {"tokenizer.json", "vocab.json"}
_MAX_HEADER = 100_000_000  # bytes, the limit of the safetensors library

# Configuration keys for which transformers loads code, possibly from other folders.
_CODE_KEYS = {"auto_map", "custom_pipelines", "custom_generate", "trust_remote_code", "use_kernels", "kernel_config"}
_KERNEL_KEY = re.compile(r"implementation$")
# Files that make a loader read another folder, or settings that are not inspected here.
_REDIRECTIONS: dict[str, Reason] = {"adapter_config.json": "elsewhere", "inference_config.txt": "setting"}

FUNCTION_KEYS = {"code", "config", "env", "loader_module", "python_version", "streamable"}
_FLAVOR_KEYS = {
    *("code", "components", "framework", "inference_task", "instance_type", "llm_inference_task", "model_binary"),
    *("pipeline_model_type", "source_model_name", "task", "torch_dtype", "transformers_version"),
    *("tokenizer_type", "tokenizer_name", "processor_type", "processor_name"),
    *("feature_extractor_type", "feature_extractor_name", "image_processor_type", "image_processor_name"),
}
_COMPONENTS = {"tokenizer", "feature_extractor", "image_processor", "processor"}
_CLASS = re.compile(r"[A-Za-z]\w*", re.ASCII)
_GENERATION_OPTIONS = {
    *("add_special_tokens", "batch_size", "bos_token_id", "clean_up_tokenization_spaces", "collapse_whitespace"),
    *("diversity_penalty", "do_sample", "early_stopping", "eos_token_id", "include_prompt", "length_penalty"),
    *("max_length", "max_new_tokens", "max_tokens", "max_time", "min_length", "min_new_tokens", "min_p", "n"),
    *("no_repeat_ngram_size", "num_beams", "num_return_sequences", "pad_token_id", "penalty_alpha"),
    *("repetition_penalty", "return_full_text", "seed", "stop", "stop_strings", "temperature", "top_k", "top_p"),
    *("truncation", "typical_p", "use_cache"),
}


def check_transformers(listing: FolderListing, mlmodel: dict[str, Any]) -> Iterator[Suspect]:
    """Yield what makes a model of the transformers flavour more than data."""
    function, flavor = mlmodel["flavors"]["python_function"], mlmodel["flavors"].get("transformers", {})
    yield from check_flavors(mlmodel, {"python_function", "transformers"})
    yield from check_keys(function, FUNCTION_KEYS, _GENERATION_OPTIONS)
    yield from check_keys(flavor, _FLAVOR_KEYS, _GENERATION_OPTIONS)
    yield from _check_places(flavor)
    yield from check_checkpoint(listing)


def check_checkpoint(listing: FolderListing) -> Iterator[Suspect]:
    """Yield what makes a folder of transformers' files more than data."""
    yield from check_names(listing.files, (SAFETENSORS,))
    for file in listing.files:
        if file.name in _REDIRECTIONS:
            yield Suspect(file.path, _REDIRECTIONS[file.name])
        elif file.name.endswith(SAFETENSORS):
            if not _is_safetensors(file):
                yield Suspect(file.path, "weights")
        elif file.name.endswith(".index.json"):
            yield from check_json(file, partial(_check_weight_index, listing, file))
        elif file.name.endswith(".json") and file.name not in _VOCABULARIES:
            yield from check_json(file, _check_config)


def _check_places(flavor: dict[str, Any]) -> Iterator[Suspect]:
    """Yield the entries of the flavor that do not name a class of transformers, or a folder of the model."""
    for key, value in flavor.items():
        is_class = key == "pipeline_model_type" or (key.endswith("_type") and key != "instance_type")
        if is_class and not (isinstance(value, str) and _CLASS.fullmatch(value)):
            yield Suspect(f"MLmodel: {key}", "setting")
    weights = flavor.get("model_binary", "pipeline")
    if not isinstance(weights, str) or not re.fullmatch(r"[A-Za-z0-9][\w-]*", weights, re.ASCII):
        yield Suspect("MLmodel: model_binary", "elsewhere")
    if not all(isinstance(name, str) and name in _COMPONENTS for name in flavor.get("components") or []):
        yield Suspect("MLmodel: components", "setting")


def _check_config(content: Any) -> Iterator[Entry]:
    """Yield the entries of a transformers configuration that make it load code."""
    for key, value in list_entries(content):
        if (key in _CODE_KEYS and value) or (_KERNEL_KEY.search(key) and "/" in str(value)):
            yield key, "remote_code"


def _check_weight_index(listing: FolderListing, index: ModelFile, content: Any) -> Iterator[Entry]:
    """Yield the weights in an index that are not safetensors files in the same folder."""
    folder = index.path.removesuffix(index.name)
    for name in set(content["weight_map"].values()):
        if not isinstance(name, str) or "/" in name or "\\" in name or not listing.find(folder + name):
            yield "weight_map", "elsewhere"
        elif not name.endswith(SAFETENSORS):
            yield "weight_map", "weights"


def _is_safetensors(file: ModelFile) -> bool:
    """Return whether a file has a safetensors header of a valid size."""
    with file.real.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        return 2 <= length <= min(_MAX_HEADER, file.size - 8) and opened.read(1) == b"{"
