"""Facts read from a model's folder: its completeness, end tokens, and what a client must know."""

import json
import os
import shutil
from pathlib import Path

import pytest

from models.checkpoint_facts import client_facts, require_known_kind, require_model, token_ids, weight_files
from models.stage import StageError
from phi3_ui.chat.types import Message
from phi3_ui.prompts.templates import get_template
from tests.conftest import Weights


@pytest.fixture(scope="module")
def checkpoint(tiny_checkpoint: Path) -> Path:
    return tiny_checkpoint


@pytest.fixture
def folder(checkpoint: Path, tmp_path: Path) -> Path:
    """A checkpoint for the test to modify."""
    return Path(shutil.copytree(checkpoint, tmp_path / "checkpoint"))


def edit(file: Path, **fields: object) -> None:
    content = {**json.loads(file.read_text(encoding="utf-8")), **fields}
    file.write_text(json.dumps({key: value for key, value in content.items() if value is not None}), encoding="utf-8")


def refused(folder: Path, kind: str = "checkpoint") -> StageError:
    with pytest.raises(StageError) as raised:
        require_model(folder, kind)  # type: ignore[arg-type]  # one of the kinds
    return raised.value


def test_end_tokens_missing_from_the_files_are_taken_from_the_template(checkpoint: Path) -> None:
    ends = client_facts(checkpoint)["end_tokens"]

    assert ends == ["<|endoftext|>", "<|end|>"]
    tokens = {
        token["id"]: token["content"]
        for token in json.loads((checkpoint / "tokenizer.json").read_text())["added_tokens"]
    }
    assert [tokens[id_] for id_ in token_ids(checkpoint, [*ends, "<|nonesuch|>"])] == ends


@pytest.mark.parametrize(
    "template",
    ["{{ messages[0].content }}", "{% if messages|length > 1 %}{{ raise_exception('One question') }}{% endif %}x"],
    ids=["bare", "refuses follow-ups"],
)
def test_a_template_without_an_end_token_adds_none(folder: Path, template: str) -> None:
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")

    assert client_facts(folder)["end_tokens"] == ["<|endoftext|>"]


@pytest.mark.parametrize(
    ("template", "detail"),
    [
        ("{{ raise_exception('never') }}", "never"),
        ("{{ messages[7].content.x }}", "has no element 7"),
        ("{% if %}", "line 1: Expected an expression, got 'end of statement block'"),
        ("x\n{% training %}", "line 2: Encountered unknown tag 'training'"),
        ("{% if messages|length > 1 %}{{ messages | nosuchfilter }}{% endif %}", "No filter named 'nosuchfilter'"),
    ],
    ids=["rejects all", "fails", "malformed", "unknown tag", "fails at follow-ups"],
)
def test_a_template_that_cannot_be_rendered_is_refused_naming_its_file(
    folder: Path, template: str, detail: str
) -> None:
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")

    with pytest.raises(StageError) as raised:
        client_facts(folder)

    assert raised.value.code == "bad_chat_template"
    assert raised.value.values["file"] == str(folder / "chat_template.jinja")
    assert detail in str(raised.value.values["detail"])


def test_a_template_with_training_tags_is_accepted(folder: Path) -> None:
    template = (
        "{%- for message in messages %}{%- if message.role == 'user' %}{{ '<|user|>' + message.content + '<|end|>' }}"
        "{%- elif message.role == 'assistant' %}{% generation %}{{ message.content + '<|end|>' }}{% endgeneration %}"
        "{%- endif %}{%- endfor %}"
    )
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")

    assert client_facts(folder)["end_tokens"] == ["<|endoftext|>", "<|end|>"]


def test_templates_may_refer_to_the_same_tokens_as_in_transformers(folder: Path) -> None:
    from transformers import AutoTokenizer

    tokens = {name: text for name, text in client_facts(folder).items() if name.endswith("_token")}
    assert tokens == AutoTokenizer.from_pretrained(folder).special_tokens_map

    edit(folder / "tokenizer_config.json", bos_token=None, eos_token=None, unk_token=None, pad_token=None)
    (folder / "special_tokens_map.json").write_text(
        json.dumps({"bos_token": "<s>", "eos_token": {"content": "<|end|>", "lstrip": False}}), encoding="utf-8"
    )
    tokens = {name: text for name, text in client_facts(folder).items() if name.endswith("_token")}
    expected = AutoTokenizer.from_pretrained(folder).special_tokens_map
    assert tokens == {name: expected[name] for name in ("bos_token", "eos_token")}


def test_a_tokenizer_may_name_additional_tokens(folder: Path) -> None:
    from transformers import AutoTokenizer

    extra = {"image_token": "<|image|>", "extra_special_tokens": {"audio_token": "<|audio|>"}, "add_bos_token": True}
    edit(folder / "tokenizer_config.json", **extra)
    (folder / "chat_template.jinja").write_text("{{ image_token + audio_token + messages[0].content }}")

    facts = client_facts(folder)

    assert {name: text for name, text in facts.items() if name.endswith("_token")} == AutoTokenizer.from_pretrained(
        folder
    ).special_tokens_map
    assert get_template(facts, None).format.render([Message("user", "Hi")]) == "<|image|><|audio|>Hi"


def test_a_token_that_starts_the_next_turn_is_not_an_end_token(folder: Path) -> None:
    template = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}"
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")

    assert client_facts(folder)["end_tokens"] == ["<|endoftext|>"]


def test_both_forms_of_the_demo_model_declare_the_same_facts(weights: Weights) -> None:
    assert client_facts(weights.checkpoint) == client_facts(weights.onnx)
    assert client_facts(weights.onnx)["end_tokens"] == ["<|im_end|>"]


def test_a_named_template_in_the_tokenizer_config_is_found(folder: Path) -> None:
    template = (folder / "chat_template.jinja").read_text(encoding="utf-8")
    (folder / "chat_template.jinja").unlink()
    templates = [{"name": "tool_use", "template": "other"}, {"name": "default", "template": template}]

    for chat_template in (templates, {entry["name"]: entry["template"] for entry in templates}):
        edit(folder / "tokenizer_config.json", chat_template=chat_template)
        assert client_facts(folder)["chat_template"] == template

    edit(folder / "tokenizer_config.json", chat_template=None)
    with pytest.raises(StageError) as raised:
        client_facts(folder)
    assert raised.value.code == "no_chat_template"


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"])
def test_an_incomplete_checkpoint_is_refused_with_the_missing_file(folder: Path, missing: str) -> None:
    (folder / missing).unlink()

    error = refused(folder)

    assert (error.code, error.values["missing"], error.values["folder"]) == ("wrong_model_folder", missing, str(folder))


def test_a_sharded_checkpoint_needs_all_its_shards(folder: Path) -> None:
    os.rename(folder / "model.safetensors", folder / "model-2.safetensors")
    index = {"weight_map": {"b": "model-2.safetensors", "a": "model-1.safetensors", "c": "model-2.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")

    assert [file.name for file in weight_files(folder)] == ["model-1.safetensors", "model-2.safetensors"]
    assert refused(folder).values["missing"] == "model-1.safetensors"


@pytest.mark.parametrize("missing", ["genai_config.json", "model.onnx"])
def test_a_folder_without_an_onnx_model_is_refused(weights: Weights, tmp_path: Path, missing: str) -> None:
    folder = Path(shutil.copytree(weights.onnx, tmp_path / "onnx", copy_function=os.link))
    (folder / missing).unlink()

    error = refused(folder, "onnx")

    assert (error.code, error.values["missing"]) == ("wrong_model_folder", missing)


def test_a_model_that_needs_remote_code_is_refused(folder: Path) -> None:
    require_known_kind(folder)
    edit(folder / "config.json", model_type="phi9", auto_map={"AutoConfig": "configuration.Phi9Config"})
    (folder / "configuration.py").write_text("raise SystemExit('this code ran')\n", encoding="utf-8")

    with pytest.raises(StageError) as raised:
        require_known_kind(folder)

    assert (raised.value.code, raised.value.values["kind"]) == ("needs_remote_code", "phi9")
