"""The ONNX wrapper, loaded from the store with plain MLflow, as in a notebook."""

import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

import mlflow
import numpy as np
import onnxruntime_genai as og
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException

from models.phi3_onnx import Phi3Onnx
from tests.conftest import Demo, Weights

GREEDY = {"temperature": 0.0, "max_tokens": 12}


def chatml(question: str) -> str:
    return f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"


FRANCE, GERMANY = chatml("What is the capital of France?"), chatml("What is the capital of Germany?")


def join_text(chunks: Iterable[dict[str, Any]]) -> str:
    return "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)


@pytest.fixture(scope="module")
def model(demo: Demo) -> Any:
    mlflow.set_tracking_uri(demo.settings.tracking_uri)
    return mlflow.pyfunc.load_model(demo.entry("prompt").uri)


def test_the_signature_is_declared_field_by_field(model: Any) -> None:
    signature = model.metadata.signature.to_dict()
    assert signature["inputs"] == '[{"type": "string", "name": "prompt", "required": true}]'
    assert signature["outputs"] == '[{"type": "string", "required": true}]'
    params = {param.name: (param.dtype.name, param.default, param.shape) for param in model.metadata.signature.params}
    assert params == {
        "max_tokens": ("long", 512, None),
        "temperature": ("double", 0.2, None),
        "top_p": ("double", 0.95, None),
        "top_k": ("long", 50, None),
        "repetition_penalty": ("double", 1.0, None),
        "presence_penalty": ("double", 0.0, None),
        "frequency_penalty": ("double", 0.0, None),
        "stop": ("string", [], (-1,)),
        "seed": ("long", -1, None),
        "n": ("long", 1, None),
    }


def test_the_metadata_declares_what_a_client_needs(model: Any) -> None:
    declared = model.metadata.metadata
    assert declared["contract"] == "prompt"
    assert "<|im_start|>" in declared["chat_template"]
    assert {"<|im_start|>", "<|im_end|>", "<|endoftext|>"} <= set(declared["special_tokens"])
    assert declared["eos_token"] == "<|im_end|>"
    assert declared["context_length"] == 8192


def test_the_artifact_has_the_documented_key(model: Any) -> None:
    assert list(model.metadata.flavors["python_function"]["artifacts"]) == ["phi3-mini-onnx"]


@pytest.mark.parametrize(
    ("model_input", "prompts"),
    [
        ({"prompt": FRANCE}, 1),
        ({"prompt": [FRANCE, GERMANY]}, 2),
        ([{"prompt": FRANCE}, {"prompt": GERMANY}], 2),
        (pd.DataFrame({"prompt": [FRANCE, GERMANY]}), 2),
        (pd.DataFrame({"prompt": [[FRANCE, GERMANY]]}), 2),
    ],
    ids=["dict", "dict of list", "list of dicts", "DataFrame", "list in a cell"],
)
def test_each_input_form_gives_one_answer_per_prompt(model: Any, model_input: Any, prompts: int) -> None:
    answers = model.predict(model_input, params=GREEDY)
    assert len(answers) == prompts
    assert "Paris" in answers[0]
    assert prompts == 1 or "Berlin" in answers[1]


@pytest.mark.parametrize(
    "model_input",
    [
        None,
        [],
        {"prompt": None},
        {"prompt": ""},
        {"prompt": []},
        {"other": FRANCE},
        pd.DataFrame({"prompt": [FRANCE, None]}),
    ],
    ids=["None", "empty list", "None prompt", "empty prompt", "no prompts", "no prompt key", "None in a cell"],
)
def test_input_without_a_prompt_raises_a_clear_error(model: Any, model_input: Any) -> None:
    with pytest.raises(MlflowException, match="prompt"):
        model.predict(model_input, params=GREEDY)


@pytest.mark.parametrize(
    "params",
    [
        {"max_tokens": 0},
        {"temperature": -1.0},
        {"top_p": 0.0},
        {"top_p": 1.5},
        {"top_k": -1},
        {"temperature": float("inf")},
        {"repetition_penalty": 0.0},
        {"presence_penalty": 2.5},
        {"frequency_penalty": -2.5},
        {"stop": [""]},
        {"stop": ["x"] * 17},
        {"seed": -2},
        {"seed": 2**31},
        {"n": 0},
        {"n": 2},
    ],
    ids=str,
)
def test_an_out_of_range_param_is_rejected_by_name_and_range(model: Any, params: dict[str, Any]) -> None:
    (name,) = params
    range_error = pytest.raises(MlflowException, match=f"^{name} cannot be .*; it must be ")
    with range_error:
        model.predict({"prompt": FRANCE}, params=params)
    with range_error:
        next(model.predict_stream({"prompt": FRANCE}, params=params))


@pytest.mark.parametrize("params", [{"stop": "a"}, {"max_tokens": 2.5}, {"temperature": "0"}, {"seed": True}], ids=str)
def test_a_param_of_the_wrong_type_is_rejected_by_the_schema(model: Any, params: dict[str, Any]) -> None:
    (name,) = params
    with pytest.raises(MlflowException, match=f"Invalid parameters found: .*{name}"):
        model.predict({"prompt": FRANCE}, params=params)


def test_an_extra_field_is_dropped_by_the_schema_and_rejected_without_it(model: Any) -> None:
    row = {"prompt": FRANCE, "temperature": 9.0, "max_tokens": 1}
    answer = model.predict(row, params=GREEDY)
    assert answer == ["The capital of France is Paris."]
    assert join_text(model.predict_stream(row, params=GREEDY)) == answer[0]
    wrapper = model.unwrap_python_model()
    for rows in (row, [row], pd.DataFrame([row])):
        with pytest.raises(MlflowException, match="pass max_tokens, temperature in params"):
            wrapper.predict(None, rows)
        with pytest.raises(MlflowException, match="pass max_tokens, temperature in params"):
            next(wrapper.predict_stream(None, rows))


def test_the_wrapper_itself_accepts_a_stop_string_and_rejects_unknown_params(model: Any) -> None:
    wrapper = model.unwrap_python_model()
    assert wrapper.predict(None, FRANCE, {**GREEDY, "stop": "rance is"}) == ["The capital of F"]
    with pytest.raises(MlflowException, match="no param best_of; the params are max_tokens, "):
        wrapper.predict(None, FRANCE, {"best_of": 2})


def test_penalties_are_subtracted_from_the_logits_of_generated_tokens(model: Any) -> None:
    """Compare with a loop that subtracts the penalties from the engine's logits and takes the most likely token."""
    wrapper, prompt = model.unwrap_python_model(), chatml("Say ha ten times: ha ha ha")
    params = {**GREEDY, "max_tokens": 24, "presence_penalty": 1.5, "frequency_penalty": 0.5}
    ids = wrapper.encode(prompt)
    options = og.GeneratorParams(wrapper._scheduler._engine._model)
    options.set_search_options(max_length=len(ids) + 24, do_sample=False)
    generator, counts = og.Generator(wrapper._scheduler._engine._model, options), Counter[int]()
    generator.append_tokens(ids)
    tokens: list[int] = []
    while len(tokens) < 24 and tokens[-1:] != wrapper.encode("<|im_end|>"):
        logits = np.array(generator.get_logits()).reshape(-1)
        for token, count in counts.items():
            logits[token] -= 1.5 + 0.5 * count
        tokens.append(int(logits.argmax()))
        counts[tokens[-1]] += 1
        generator.append_tokens(tokens[-1:])
    expected = wrapper._tokenizer.decode(tokens)

    assert model.predict({"prompt": prompt}, params=params) == [expected]
    assert model.predict({"prompt": prompt}, params={**GREEDY, "max_tokens": 24}) != [expected]


def test_an_additionally_declared_end_token_ends_the_answer_and_is_not_shown(model: Any, weights: Weights) -> None:
    wrapper = Phi3Onnx()
    wrapper.load(weights.onnx, 1, ("ĠParis", "not a token"))
    chunks = list(wrapper.predict_stream(None, {"prompt": FRANCE}, GREEDY))
    assert join_text(chunks) == "The capital of France is"
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    assert chunks[-1]["usage"]["completion_tokens"] == 6


def test_the_stream_yields_openai_chunks_and_ends_with_usage(model: Any) -> None:
    chunks = list(model.predict_stream({"prompt": FRANCE}, params=GREEDY))
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk["id"] for chunk in chunks}) == 1
    text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
    assert text == model.predict({"prompt": FRANCE}, params=GREEDY)[0] == "The capital of France is Paris."
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert all("usage" not in chunk for chunk in chunks[:-1])
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    usage = chunks[-1]["usage"]
    assert {"prompt_tokens": 16, "completion_tokens": 8, "total_tokens": 24}.items() <= usage.items()
    assert usage["prompt_tokens_details"]["cached_tokens"] < 16


def test_a_long_prompt_reports_prefill_progress_before_the_first_text(model: Any) -> None:
    chunks = list(model.predict_stream({"prompt": chatml("word " * 300)}, params={"max_tokens": 2}))
    progress = [chunk["prompt_progress"]["processed"] for chunk in chunks if "prompt_progress" in chunk]
    total = chunks[-1]["usage"]["prompt_tokens"]
    assert progress == [*range(progress[0], total, 64), total]


def test_max_tokens_cuts_the_answer_with_finish_reason_length(model: Any) -> None:
    *_, last = model.predict_stream({"prompt": chatml("Tell me a story.")}, params={**GREEDY, "max_tokens": 5})
    assert last["choices"][0]["finish_reason"] == "length"
    assert last["usage"]["completion_tokens"] == 5


def test_a_stop_string_ends_the_answer_before_it(model: Any) -> None:
    params = {**GREEDY, "stop": ["rance is"]}
    chunks = list(model.predict_stream({"prompt": FRANCE}, params=params))
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks) == "The capital of F"
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    assert model.predict({"prompt": FRANCE}, params=params) == ["The capital of F"]


def test_an_unmatched_stop_string_changes_nothing(model: Any) -> None:
    assert model.predict({"prompt": FRANCE}, params={**GREEDY, "stop": ["Paris!"]}) == [
        "The capital of France is Paris."
    ]


def test_answers_repeat_with_a_seed_and_vary_without(model: Any) -> None:
    def story(seed: int) -> str:
        params = {"temperature": 1.5, "max_tokens": 24, "seed": seed}
        return str(model.predict({"prompt": chatml("Tell me a story.")}, params=params)[0])

    assert story(7) == story(7)
    assert len({story(-1) for _ in range(3)}) > 1


def test_a_prompt_longer_than_the_context_is_rejected_with_its_token_count(model: Any) -> None:
    with pytest.raises(MlflowException, match=re.escape("but prompt and answer may have 8,192")):
        model.predict({"prompt": "word " * 9000})


def test_predict_stream_rejects_two_prompts(model: Any) -> None:
    with pytest.raises(MlflowException, match="one prompt at a time"):
        list(model.predict_stream({"prompt": [FRANCE, GERMANY]}))


def test_control_tokens_can_be_passed_as_plain_text(model: Any) -> None:
    wrapper = model.unwrap_python_model()
    end = wrapper.encode("<|im_end|>")
    assert len(end) == 1
    assert len(wrapper.encode("<\u2063|im_end|>")) > 1
    assert wrapper.encode("a\u2063\u2063b") != wrapper.encode("ab")
