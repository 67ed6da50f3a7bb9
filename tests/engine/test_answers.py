"""Both demo models answer many kinds of text: the streamed text equals the answer, and the token counts are right."""

import re

import pytest
from tokenizers import Tokenizer

from phi3_ui.chat.types import Batching, CancelToken, ChatRequest, Completed, GenerationParams, Message, TextDelta
from phi3_ui.host.hosted_model import HostedModel
from phi3_ui.prompts.tokenization import PromptFormat
from tests.conftest import Demo, Weights

QUESTIONS = [
    "What is the capital of France?",
    "Reply only with these emoji: 😀🎉👩‍👩‍👧🏳️‍🌈",
    "Repeat: 🌪🌸🇷🇴",
    "你好,请用中文介绍一下北京。",
    "日本語で自己紹介してください。",
    "안녕하세요? 한국어로 대답해 주세요.",
    "Scrie o propoziție în română despre șah și țară.",
    "Напиши предложение о море.",
    "اكتب جملة عن البحر",
    "Write a Python function that reverses a list.",
    "Fix this:\n```python\ndef f(x):\n\treturn x  +  1\n```",
    'Write JSON with keys "a" and "b".',
    "<div>What does this HTML do?</div>",
    "Pneumonoultramicroscopicsilicovolcanoconiosis" * 4,
    "x" * 400,
    "Count: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 2024 3.14159",
    "  leading and trailing spaces  ",
    "line one\n\n\nline two\ttabbed",
    "What does <|im_end|> or <|im_start|>system mean?",
    "Write $E = mc^2$ and explain it.",
    "e\u0301 is e with an accent; a\u2063b has an invisible character",
    "List three fruits, comma separated.",
]
SYSTEM = "You are terse."
_TOKENS = 10  # an emoji takes four


@pytest.fixture(scope="session")
def tokenizer(weights: Weights) -> Tokenizer:
    return Tokenizer.from_file(str(weights.checkpoint / "tokenizer.json"))


def test_only_the_onnx_model_is_reported_as_batched(hosted: HostedModel) -> None:
    hosted.ready.result()
    assert hosted.batching == {"prompt": Batching(), "chat": Batching("pipeline")}[hosted.spec.contract]


def test_continuing_a_truncated_answer_gives_the_full_answer(hosted: HostedModel) -> None:
    # The model is certain of each token of this answer. Otherwise the test would fail without AVX-512 VNNI, where int8 kernels
    # for prefill and decode round differently: between two about equally likely tokens, the continuation may choose the other.
    messages = (Message("user", 'Write JSON with keys "a" and "b".'),)

    def ask(max_tokens: int, prefix: str = "") -> Completed:
        request = ChatRequest(messages, GenerationParams(max_tokens, temperature=0.0), prefix=prefix)
        *deltas, end = [
            event for event in hosted.answer(request, CancelToken()) if isinstance(event, TextDelta | Completed)
        ]
        assert isinstance(end, Completed)
        assert "".join(event.text for event in deltas if isinstance(event, TextDelta)) == end.text
        return end

    full, truncated = ask(16), ask(4)
    continuation = ask(12, truncated.text)
    assert truncated.finish_reason == "length"
    assert truncated.text + continuation.text == full.text
    assert truncated.usage
    assert continuation.usage
    assert continuation.usage.prompt_tokens == truncated.usage.prompt_tokens + 4


@pytest.mark.parametrize("question", QUESTIONS, ids=range(len(QUESTIONS)))
def test_streamed_text_equals_the_answer_and_counts_match_the_tokenizer(
    hosted: HostedModel, demo: Demo, tokenizer: Tokenizer, weights: Weights, question: str
) -> None:
    messages = (Message("system", SYSTEM), Message("user", question))
    params = GenerationParams(max_tokens=_TOKENS, temperature=0.0)
    events = list(hosted.answer(ChatRequest(messages, params), CancelToken()))
    (completed,) = [event for event in events if isinstance(event, Completed)]
    assert events[-1] is completed
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == completed.text
    assert completed.usage is not None
    assert completed.usage.prompt_tokens == count_prompt(tokenizer, weights, hosted.spec.contract, messages)
    if completed.finish_reason == "length":
        assert completed.usage.completion_tokens == _TOKENS
    else:
        # The end-of-turn token was generated too. MLflow's pipeline strips leading white space.
        expected = len(tokenizer.encode(completed.text).ids) + 1
        assert completed.usage.completion_tokens - expected in ({0, 1} if hosted.spec.contract == "chat" else {0})


def count_prompt(tokenizer: Tokenizer, weights: Weights, contract: str, messages: tuple[Message, ...]) -> int:
    """Count prompt tokens without the app's code: render the template, with control tokens in user text as plain text."""
    template = (weights.checkpoint / "chat_template.jinja").read_text(encoding="utf-8")
    special = [token.content for token in tokenizer.get_added_tokens_decoder().values()]
    if contract == "prompt":
        prompt = PromptFormat(template, tuple(special)).render(messages)
        pieces = [piece.replace("\u2063\u2063", "\u2063") for piece in re.split("(?<!\u2063)\u2063(?!\u2063)", prompt)]
        return sum(len(tokenizer.encode(piece).ids) for piece in pieces)
    control_token = re.compile(f"(?=(?:{'|'.join(map(re.escape, special))}))(.)", re.S)
    contents = [(message.role, control_token.sub("\\1\u2063", message.content)) for message in messages]
    text = "".join(f"<|im_start|>{role}\n{content}<|im_end|>\n" for role, content in contents)
    return len(tokenizer.encode(f"{text}<|im_start|>assistant\n").ids)
