"""Language models that judge answers: a model of the store, or one behind an OpenAI-compatible endpoint."""

import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from phi3_ui.chat.chat_model import ChatModel
from phi3_ui.chat.json_values import has_more_values
from phi3_ui.chat.types import ChatRequest, GenerationParams, Message
from phi3_ui.errors import UserError
from phi3_ui.evaluation.asking import answer_question
from phi3_ui.evaluation.prompt_set import EXPECTED_RESPONSE, PromptRecord
from phi3_ui.evaluation.scorers import ScoringError
from phi3_ui.store.registry.cards import ModelEntry

JUDGE_NAME = "judge"
DEFAULT_CRITERION = "The answer is correct, and it answers what was asked."
_MAX_TOKENS = 200
_TIMEOUT = 120.0  # seconds
_MAX_BODY, _MAX_VALUES = 1_000_000, 10_000  # bytes of a response, and values of its JSON
_VERDICT = re.compile(r"\b(yes|no)\b", re.IGNORECASE)

_PROMPT = """You judge the answer of an assistant by one criterion.

Criterion: {criterion}

Question:
<question>
{question}
</question>
{expected}
Answer to judge:
<answer>
{answer}
</answer>

Does the answer meet the criterion? Begin with the single word yes or no, then give the reason in one sentence."""

_EXPECTED = """
An answer that meets it:
<expected>
{expected}
</expected>
"""


@dataclass(frozen=True)
class Verdict:
    """A judge's verdict on an answer."""

    is_good: bool
    reason: str


@dataclass(frozen=True)
class Judge:
    """A judge, ready for use."""

    name: str
    """The name of the judging model."""
    ask: Callable[[str], str]
    """Returns the model's answer to a prompt. Raises UserError or ScoringError."""
    criterion: str = DEFAULT_CRITERION

    def judge(self, record: PromptRecord, answer: str) -> Verdict:
        """Judge an answer. Raises ScoringError if the judge fails or answers neither yes nor no."""
        try:
            reply = self.ask(build_prompt(self.criterion, record.question, answer, record.expectations)).strip()
        except UserError as error:
            raise ScoringError(str(error)) from error
        found = _VERDICT.search(reply)
        if found is None:
            raise ScoringError(f"the judge answered neither yes nor no: {reply[:200]}")
        return Verdict(found[1].lower() == "yes", reply)


def build_prompt(criterion: str, question: str, answer: str, expectations: Mapping[str, Any]) -> str:
    """Build the prompt for a judge."""
    expected = expectations.get(EXPECTED_RESPONSE)
    shown = _EXPECTED.format(expected=expected) if expected else ""
    return _PROMPT.format(criterion=criterion, question=question, expected=shown, answer=answer)


def judge_with_model(entry: ModelEntry, get_model: Callable[[], ChatModel], criterion: str) -> Judge:
    """Return a judge that is a model of the store, with greedy decoding."""

    def ask(prompt: str) -> str:
        wanted: dict[str, Any] = {"max_tokens": _MAX_TOKENS, "temperature": 0.0}
        params = GenerationParams(**{name: value for name, value in wanted.items() if name in entry.supported_params})
        request = ChatRequest((Message("user", prompt),), params, entry.template)
        answer = answer_question(get_model(), entry.name, request)
        if answer.error:
            raise UserError(answer.error[0], **answer.error[1])
        return answer.text

    return Judge(entry.name, ask, criterion)


def _post(url: str, body: dict[str, Any], headers: dict[str, str]) -> bytes:
    """Return the raw body of the response. Raises httpx.HTTPError; ValueError if it is too large, too slow or too complex."""
    deadline = time.monotonic() + _TIMEOUT
    sent = {**headers, "Accept-Encoding": "identity"}
    with httpx.stream("POST", url, json=body, headers=sent, timeout=_TIMEOUT) as response:
        response.raise_for_status()
        received = bytearray()
        for piece in response.iter_raw():
            received += piece
            if len(received) > _MAX_BODY or time.monotonic() > deadline:
                raise ValueError("the response is too large or too slow")
    if has_more_values(bytes(received), _MAX_VALUES):
        raise ValueError("the response has too many values")
    return bytes(received)


def judge_with_endpoint(url: str, model: str, key: str, criterion: str) -> Judge:
    """Return a judge behind an OpenAI-compatible API at `url`, such as https://host/v1, with the API key `key` if not empty."""

    def ask(prompt: str) -> str:
        body = {
            "model": model,
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": _MAX_TOKENS,
            "temperature": 0,
        }
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        try:
            reply = json.loads(_post(f"{url.rstrip('/')}/chat/completions", body, headers))
            return str(reply["choices"][0]["message"]["content"])
        except (httpx.HTTPError, ValueError, LookupError, TypeError, RecursionError) as error:
            status = error.response.status_code if isinstance(error, httpx.HTTPStatusError) else type(error).__name__
            raise ScoringError(f"the judge at {url} failed ({status})") from error

    return Judge(model, ask, criterion)
