"""The int8 ONNX model predicts nearly the same next tokens as its fp32 checkpoint."""

import json

import numpy as np
import onnxruntime_genai as og
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.conftest import Weights

QUESTIONS = [
    "What is the capital of Germany?",
    "Write a haiku about the sea.",
    "Explain gravity in one sentence.",
    "Write a Python function that reverses a list.",
    "Who wrote Romeo and Juliet?",
]
TOKENS = 32


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")
def test_int8_agrees_with_fp32(weights: Weights) -> None:
    tokenizer = AutoTokenizer.from_pretrained(weights.checkpoint)
    reference = AutoModelForCausalLM.from_pretrained(weights.checkpoint)
    config = og.Config(str(weights.onnx))
    config.overlay(json.dumps({"model": {"decoder": {"session_options": {"intra_op_num_threads": 2}}}}))
    model = og.Model(config)
    divergences, agreements = [], []
    for question in QUESTIONS:
        messages = [{"role": "user", "content": question}]
        prompt = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        ids = reference.generate(**prompt, max_new_tokens=TOKENS, do_sample=False)[0]
        with torch.no_grad():
            expected = torch.log_softmax(reference(ids[None]).logits[0], -1)
        start = prompt["input_ids"].shape[1]
        params = og.GeneratorParams(model)
        params.set_search_options(max_length=len(ids) + 1, do_sample=False)
        generator = og.Generator(model, params)
        generator.append_tokens(ids[:start].numpy().astype(np.int32))
        for position in range(start, len(ids)):
            logits = torch.from_numpy(np.array(generator.get_logits(), dtype=np.float32).reshape(-1))
            actual, target = torch.log_softmax(logits, -1), expected[position - 1]
            divergences.append(float((target.exp() * (target - actual)).sum()))
            agreements.append(bool(actual.argmax() == target.argmax()))
            generator.append_tokens(ids[position : position + 1].numpy().astype(np.int32))
    assert len(agreements) > 80
    assert np.mean(divergences) < 0.02
    assert np.mean(agreements) > 0.95
