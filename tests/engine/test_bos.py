"""If both template and tokenizer add the beginning-of-sequence token (BOS), prompts contain and count it once."""

import functools
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow import MlflowClient
from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline

from models import log_pipeline, phi3_onnx
from models.checkpoint_facts import client_facts
from models.presets import Origin
from models.tracking import Store
from phi3_ui.chat.conversation import Answer, Conversation, TurnRequest
from phi3_ui.chat.types import (
    CancelToken,
    ChatRequest,
    Completed,
    ContextUsage,
    GenerationParams,
    Message,
    PrefillProgress,
)
from phi3_ui.contracts.base import Adapter
from phi3_ui.contracts.declaration import ModelDeclaration
from phi3_ui.export.reproduce import render_program
from phi3_ui.host.protocol import ModelSpec
from phi3_ui.host.worker import load_adapter
from phi3_ui.prompts.templates import get_template
from phi3_ui.prompts.tokenization import SystemPromptError
from phi3_ui.store.registry.catalogue import Catalogue
from tests.support.bos_models import FAMILIES, make_bos_checkpoint
from tests.support.build_cache import create_store

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")

MESSAGES = (Message("user", "Hello there"), Message("assistant", "Hello!"), Message("user", "What is\n\nthe sea? 😀"))
DICTS = [{"role": message.role, "content": message.content} for message in MESSAGES]
TOKENS = 5
GREEDY = GenerationParams(TOKENS, 0.0)
OURS, CHAT, COMPLETIONS = "log_pipeline", "third-party chat", "third-party completions"


class Models:
    """Models in one store, each logged when first used."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._store = Store(create_store(folder), (folder / "artifacts").as_uri())
        self.checkpoint = functools.cache(self._make_checkpoint)
        self.adapter = functools.cache(self._load_adapter)
        self.model_id = functools.cache(self._log)

    def load(self, family: str, kind: str) -> Any:
        """Load a model as plain MLflow does."""
        mlflow.set_tracking_uri(self._store.tracking_uri)
        return mlflow.pyfunc.load_model(f"models:/{self.model_id(family, kind)}")

    def make_program(self, family: str, kind: str, answer: str) -> str:
        """Return the program that reproduces the greedy answer to MESSAGES."""
        conversation = Conversation()
        for question, text in ((MESSAGES[0], MESSAGES[1].content), (MESSAGES[2], answer)):
            turn_request = TurnRequest(1.7e9, self.model_id(family, kind), "", GREEDY, "chatml")
            conversation = conversation.with_question(question.content, turn_request).with_answer(Answer(family, text))
        declaration = ModelDeclaration.from_mlmodel(self.load(family, kind).metadata)
        assert conversation.leaf
        return render_program(conversation, conversation.leaf, declaration, self._store.tracking_uri)

    def _make_checkpoint(self, family: str) -> Path:
        return make_bos_checkpoint(self._folder / family, family)

    def _load_adapter(self, family: str, kind: str) -> Adapter:
        entry = Catalogue(self._store.tracking_uri).find(self.model_id(family, kind))
        return load_adapter(ModelSpec(entry.model_id, entry.name, entry.uri, entry.contract, entry.tracking_uri))

    def _log(self, family: str, kind: str) -> str:
        checkpoint = self.checkpoint(family)
        if kind == OURS:
            origin = Origin(preset="", name=family, title=family, source=f"tests/{family}", license="mit")
            options: dict[str, Any] = {"measured": False, "registering": False, "report": lambda *_: None}
            return log_pipeline.log(checkpoint, origin, self._store, **options).model_id
        model, tokenizer = AutoModelForCausalLM.from_pretrained(checkpoint), AutoTokenizer.from_pretrained(checkpoint)
        generator = pipeline("text-generation", model=model, tokenizer=tokenizer)
        mlflow.set_tracking_uri(self._store.tracking_uri)
        client = MlflowClient(self._store.tracking_uri)
        experiment = client.get_experiment_by_name("theirs")
        experiment_id = experiment.experiment_id if experiment else client.create_experiment("theirs")
        with mlflow.start_run(experiment_id=experiment_id):
            task = "llm/v1/chat" if kind == CHAT else "llm/v1/completions"
            return str(mlflow.transformers.log_model(generator, name=family, task=task, pip_requirements=[]).model_id)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    return Models(tmp_path_factory.mktemp("bos"))


def expected_ids(checkpoint: Path) -> list[int]:
    """Return the prompt's ids as transformers' own chat pipeline encodes them."""
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    ids: list[int] = tokenizer.apply_chat_template(DICTS, add_generation_prompt=True, return_dict=True)["input_ids"]
    assert tokenizer("x")["input_ids"][0] == tokenizer.bos_token_id, "the tokenizer adds BOS too"
    assert ids.count(tokenizer.bos_token_id) == 1
    return ids


@pytest.fixture
def prefilled_ids(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """Record the ids of each prompt that the pipeline passes to `generate` during the test."""
    from transformers import TextGenerationPipeline

    prompts: list[list[int]] = []
    forward = TextGenerationPipeline._forward

    def record(self: Any, inputs: Any, **arguments: Any) -> Any:
        prompts.append(inputs["input_ids"][0].tolist())
        return forward(self, inputs, **arguments)

    monkeypatch.setattr(TextGenerationPipeline, "_forward", record)
    return prompts


def ask(adapter: Adapter, request: ChatRequest) -> tuple[list[Any], Completed]:
    *events, end = adapter.answer(request, CancelToken())
    assert isinstance(end, Completed)
    return events, end


@pytest.mark.parametrize("family", FAMILIES)
def test_plain_mlflow_adds_bos_once_for_a_model_logged_by_us(
    models: Models, prefilled_ids: list[list[int]], family: str
) -> None:
    (completion,) = models.load(family, OURS).predict({"messages": DICTS, "max_tokens": TOKENS, "temperature": 0.01})

    ids = expected_ids(models.checkpoint(family))
    assert prefilled_ids == [ids]
    assert completion["usage"] == {
        "prompt_tokens": len(ids),
        "completion_tokens": TOKENS,
        "total_tokens": len(ids) + TOKENS,
    }
    assert completion["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize("kind", [OURS, CHAT])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_app_adds_bos_once_and_counts_it(
    models: Models, prefilled_ids: list[list[int]], family: str, kind: str
) -> None:
    events, end = ask(models.adapter(family, kind), ChatRequest(MESSAGES, GREEDY))

    ids = expected_ids(models.checkpoint(family))
    assert prefilled_ids == [ids]
    counted = [event.prompt_tokens for event in events if isinstance(event, ContextUsage)]
    assert counted == ([len(ids)] if kind == OURS else []), "only our metadata declares the context length"
    assert {event.total for event in events if isinstance(event, PrefillProgress)} == {len(ids)}
    assert end.usage
    assert (end.usage.prompt_tokens, end.usage.completion_tokens) == (len(ids), TOKENS)
    assert end.finish_reason == "length"


@pytest.mark.parametrize("family", FAMILIES)
def test_a_template_without_bos_gets_it_from_the_tokenizer(
    models: Models, prefilled_ids: list[list[int]], family: str
) -> None:
    events, end = ask(models.adapter(family, COMPLETIONS), ChatRequest(MESSAGES, GREEDY, "chatml"))

    (ids,) = prefilled_ids
    tokenizer = AutoTokenizer.from_pretrained(models.checkpoint(family))
    assert (ids[0], ids.count(tokenizer.bos_token_id)) == (tokenizer.bos_token_id, 1)
    assert {event.total for event in events if isinstance(event, PrefillProgress)} == {len(ids)}
    assert end.usage
    assert (end.usage.prompt_tokens, end.usage.completion_tokens) == (len(ids), TOKENS)
    assert end.finish_reason == "length"


@pytest.mark.parametrize("family", FAMILIES)
def test_the_onnx_wrapper_encodes_the_same_ids(models: Models, family: str) -> None:
    from tokenizers import Tokenizer

    checkpoint = models.checkpoint(family)
    wrapper = phi3_onnx.Phi3Onnx()
    # `encode` needs nothing else of a loaded model.
    wrapper._tokenizer = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))

    prompt = get_template(client_facts(checkpoint), None).format.render(MESSAGES)

    assert wrapper.encode(prompt) == expected_ids(checkpoint)


@pytest.mark.parametrize("kind", [OURS, CHAT, COMPLETIONS])
def test_the_reproduce_program_prefills_the_same_ids(
    models: Models, prefilled_ids: list[list[int]], capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    _, end = ask(models.adapter("mistral", kind), ChatRequest(MESSAGES, GREEDY, "chatml"))
    program = models.make_program("mistral", kind, end.text)
    capsys.readouterr()

    exec(compile(program, "program", "exec"), {})  # noqa: S102 (our own program; a subprocess would import torch again)

    assert prefilled_ids[0] == prefilled_ids[1]
    assert capsys.readouterr().out == f"{end.text}\n"
    assert ("add_special_tokens" in program) is (kind == CHAT)


@pytest.mark.parametrize("kind", [OURS, CHAT])
@pytest.mark.parametrize("family", ["gemma", "mistral"])
def test_a_system_prompt_rejected_by_the_template_has_its_own_error(models: Models, family: str, kind: str) -> None:
    with pytest.raises(SystemPromptError):
        ask(models.adapter(family, kind), ChatRequest((Message("system", "Be brief."), *MESSAGES), GREEDY))
