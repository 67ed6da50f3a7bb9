"""Model folders as the project logs them, but written by hand: without an engine, and with empty weights."""

import json
import shutil
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from models.wrapper_code import code_files
from phi3_ui.store.registry.released_code import WRAPPER

_ENVIRONMENT = {"conda": "conda.yaml", "virtualenv": "python_env.yaml"}
SAFETENSORS = (2).to_bytes(8, "little") + b"{}"


def write_pipeline(folder: Path) -> Path:
    """Write a chat pipeline that contains only data."""
    write_mlmodel(
        folder,
        python_function={
            "config": {"do_sample": True, "max_new_tokens": 512},
            "env": _ENVIRONMENT,
            "loader_module": "mlflow.transformers",
            "python_version": "3.11.7",
        },
        transformers={
            "code": None,
            "components": ["tokenizer"],
            "instance_type": "TextGenerationPipeline",
            "model_binary": "model",
            "pipeline_model_type": "LlamaForCausalLM",
            "source_model_name": "/home/someone/checkpoint",
            "task": "text-generation",
            "tokenizer_type": "LlamaTokenizer",
            "torch_dtype": "torch.float32",
        },
    )
    write_json(folder / "model" / "config.json", {"model_type": "llama", "architectures": ["LlamaForCausalLM"]})
    write_json(folder / "model" / "generation_config.json", {"eos_token_id": [2]})
    weights = {"a": "model-00001-of-00001.safetensors"}
    write_json(folder / "model" / "model.safetensors.index.json", {"weight_map": weights})
    (folder / "model" / "model-00001-of-00001.safetensors").write_bytes(SAFETENSORS)
    write_json(folder / "components" / "tokenizer" / "tokenizer.json", {"model": {"vocab": {"auto_map": 1}}})
    write_json(folder / "components" / "tokenizer" / "tokenizer_config.json", {"tokenizer_class": "LlamaTokenizer"})
    return folder


def write_wrapper(folder: Path) -> Path:
    """Write a model with the current ONNX wrapper."""
    write_mlmodel(
        folder,
        python_function={
            "artifacts": {"phi3-mini-onnx": {"path": "artifacts/onnx", "uri": "/home/someone/onnx"}},
            "cloudpickle_version": "3.1.2",
            "code": "code",
            "config": {"cache_mb": 0, "end_tokens": ["<|end|>"], "threads": 0},
            "env": _ENVIRONMENT,
            "loader_module": "mlflow.pyfunc.loaders.code_model",
            "model_code_path": f"/home/someone/models/{WRAPPER}",
            "python_version": "3.11.7",
            "streamable": True,
        },
    )
    for path, file in code_files().items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, folder / path)
    write_json(folder / "artifacts" / "onnx" / "genai_config.json", {"model": {"decoder": {"filename": "model.onnx"}}})
    write_json(folder / "artifacts" / "onnx" / "tokenizer.json", {})
    (folder / "artifacts" / "onnx" / "model.onnx").write_bytes(onnx_file("model.onnx.data"))
    (folder / "artifacts" / "onnx" / "model.onnx.data").write_bytes(b"\0")
    return folder


def write_mlmodel(folder: Path, **flavors: dict[str, Any]) -> None:
    """Write the MLmodel file of a chat model with these flavors, and the files that MLflow adds next to it."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {"flavors": flavors, "metadata": {"contract": "prompt"}, "mlflow_version": "3.17.2"}
    (folder / "MLmodel").write_text(yaml.safe_dump(content))
    for name in ("conda.yaml", "python_env.yaml", "requirements.txt"):
        (folder / name).write_text("")


def change_flavor(folder: Path, flavor: str, **entries: Any) -> None:
    """Change entries of a flavor in MLmodel, or add the flavor."""
    content = yaml.safe_load((folder / "MLmodel").read_text())
    content["flavors"].setdefault(flavor, {}).update(entries)
    (folder / "MLmodel").write_text(yaml.safe_dump(content))


def write_json(file: Path, content: Any) -> None:
    """Write a JSON file, creating its folder if necessary."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))


def change_json(file: Path, **entries: Any) -> None:
    """Change entries of a JSON file, or create the file."""
    write_json(file, {**(json.loads(file.read_text()) if file.exists() else {}), **entries})


def onnx_file(location: str, hidden_bit: int | None = None) -> bytes:
    """Return an ONNX file whose only tensor has its data at `location`; `hidden_bit` is an extra bit in the field's tag."""
    entry = _field(1, b"location") + _field(2, location.encode())
    tensor = b"\x10\x01" + _field(8, b"w") + _field(13, entry, hidden_bit) + b"\x70\x01"
    return b"\x08\x08" + _field(7, _field(5, tensor))


def _field(number: int, content: bytes, hidden_bit: int | None = None) -> bytes:
    tag, rest = bytearray(), number << 3 | 2 | (1 << hidden_bit if hidden_bit else 0)
    while rest > 127:
        tag.append(rest & 127 | 128)
        rest >>= 7
    return bytes([*tag, rest, len(content)]) + content
