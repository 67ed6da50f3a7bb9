"""One question through each path from the raw engine to the browser: tokens/s and time to first token.

Every path decodes greedily, with the same prompt and number of tokens. A path ends where a user receives the text: in the
browser, times are taken on the page when the text of the answer changes.
"""

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phi3_ui.chat.types import CancelToken, ChatRequest, Completed, GenerationParams, Message, TextDelta
from phi3_ui.host.hosted_model import HostedModel
from phi3_ui.host.protocol import ModelSpec
from phi3_ui.prompts.tokenization import PromptFormat
from tests.support.trust import strict_admission

QUESTION = "Write a long story about the sea, with many chapters."


@dataclass(frozen=True)
class Speed:
    """`rate`: tokens per second from first to last text; `first`: seconds from the question to the first text."""

    rate: float
    first: float


AnswerPath = Callable[[int], Speed]
"""Answers QUESTION with the given number of tokens."""


TextPoint = tuple[float, int]
"""(time in seconds, characters or tokens received by then)."""


def measure_speed(started: float, points: list[TextPoint], tokens: int) -> Speed:
    """Compute the speed of an answer from its start time, its growth and its total number of tokens.

    Text arrives in bundles. The first bundle arrives before the interval that the rate covers, so it is not counted.
    """
    (first, size), (last, total) = points[0], points[-1]
    return Speed(tokens * (1 - size / total) / (last - first), first - started)


def render_prompt(metadata: dict[str, Any]) -> str:
    form = PromptFormat(metadata["chat_template"], tuple(metadata["special_tokens"]))
    return form.render([Message("user", QUESTION)])


@contextmanager
def open_raw_engine(folder: Path, prompt_ids: list[int], threads: int) -> Iterator[AnswerPath]:
    """Open onnxruntime-genai's own loop, without detokenization."""
    import onnxruntime_genai as og

    config = og.Config(str(folder))
    config.overlay(json.dumps({"model": {"decoder": {"session_options": {"intra_op_num_threads": threads}}}}))
    model = og.Model(config)

    def answer(tokens: int) -> Speed:
        params = og.GeneratorParams(model)
        params.set_search_options(max_length=len(prompt_ids) + tokens, do_sample=False)
        started, points = time.perf_counter(), list[TextPoint]()
        generator = og.Generator(model, params)
        generator.append_tokens(prompt_ids)
        while not generator.is_done():
            generator.generate_next_token()
            points.append((time.perf_counter(), len(points) + 1))
        return measure_speed(started, points, len(points))

    yield answer


@contextmanager
def open_raw_generate(folder: Path, threads: int) -> Iterator[AnswerPath]:
    """Open the generate method of transformers, without detokenization."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    messages = [{"role": "user", "content": QUESTION}]
    inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)

    class Clock:
        def __init__(self) -> None:
            self.times: list[float] = []

        def put(self, _: Any) -> None:
            self.times.append(time.perf_counter())

        def end(self) -> None:
            pass

    def answer(tokens: int) -> Speed:
        torch.set_num_threads(threads)  # for this thread and new ones
        clock, started = Clock(), time.perf_counter()
        model.generate(**inputs, max_new_tokens=tokens, do_sample=False, streamer=clock)
        points = [(at, count) for count, at in enumerate(clock.times) if count]  # the first is the prompt
        return measure_speed(started, points, len(points))

    yield run_in_own_thread(answer)


def run_in_own_thread(answer: AnswerPath) -> AnswerPath:
    """Run each answer in its own thread, which also releases torch's and asyncio's per-thread state."""

    def run(tokens: int) -> Speed:
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(answer, tokens).result()

    return run


@contextmanager
def open_pyfunc_stream(spec: ModelSpec) -> Iterator[AnswerPath]:
    """Open the ONNX wrapper's predict_stream through mlflow.pyfunc, in this process."""
    import mlflow

    mlflow.set_tracking_uri(spec.tracking_uri)
    model = mlflow.pyfunc.load_model(spec.uri)
    prompt = render_prompt(model.metadata.metadata)

    def answer(tokens: int) -> Speed:
        started, points, count, size = time.perf_counter(), list[TextPoint](), 0, 0
        for chunk in model.predict_stream({"prompt": prompt}, params={"max_tokens": tokens, "temperature": 0.0}):
            if text := chunk["choices"][0]["delta"].get("content"):
                size += len(text)
                points.append((time.perf_counter(), size))
            count = chunk.get("usage", {}).get("completion_tokens", count)
        return measure_speed(started, points, count)

    yield answer


@contextmanager
def open_pyfunc_hooked(spec: ModelSpec) -> Iterator[AnswerPath]:
    """Open the pipeline's predict through mlflow.pyfunc with intercepted tokens, in this process."""
    import mlflow

    from phi3_ui.contracts.pipeline_chat import PipelineChatAdapter

    mlflow.set_tracking_uri(spec.tracking_uri)
    model = PipelineChatAdapter(mlflow.pyfunc.load_model(spec.uri), ())
    yield lambda tokens: _measure_events(model.answer(_request(tokens), CancelToken()))


@contextmanager
def open_process(spec: ModelSpec, logs: Path) -> Iterator[AnswerPath]:
    """Open the model in its own process, accessed over its pipe."""
    model = HostedModel(spec, logs, strict_admission(logs).admit)
    model.ready.result()
    yield lambda tokens: _measure_events(model.answer(_request(tokens), CancelToken()))
    model.unload()


def _request(tokens: int) -> ChatRequest:
    return ChatRequest((Message("user", QUESTION),), GenerationParams(tokens, 0.0))


def _measure_events(events: Iterator[Any]) -> Speed:
    started, points, count, size = time.perf_counter(), list[TextPoint](), 0, 0
    for event in events:
        if isinstance(event, TextDelta):
            size += len(event.text)
            points.append((time.perf_counter(), size))
        elif isinstance(event, Completed) and event.usage:
            count = event.usage.completion_tokens
    return measure_speed(started, points, count)


@contextmanager
def open_api(url: str, model: str) -> Iterator[AnswerPath]:
    """Open the app's /v1/chat/completions through OpenAI's client."""
    from openai import OpenAI

    with OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        yield lambda tokens: stream_api(client, model, QUESTION, tokens)


def stream_api(client: Any, model: str, question: str, tokens: int) -> Speed:
    """Ask once through OpenAI's client; the answer is recorded, which is the default."""
    started = time.perf_counter()
    return measure_speed(started, *receive_api(client, model, question, tokens))


def receive_api(
    client: Any, model: str, question: str, tokens: int, on_text: Callable[[str], object] = lambda _: None
) -> tuple[list[TextPoint], int]:
    """Ask once, and return the growth of the answer and its number of tokens. `on_text` is called with each chunk."""
    points, count, size = list[TextPoint](), 0, 0
    for chunk in client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": question}],
        max_tokens=tokens,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    ):
        if chunk.choices and (text := chunk.choices[0].delta.content):
            size += len(text)
            points.append((time.perf_counter(), size))
            on_text(text)
        count = chunk.usage.completion_tokens if chunk.usage else count
    return points, count


@contextmanager
def open_gradio_client(url: str, model_id: str) -> Iterator[AnswerPath]:
    """Open the app's /chat through gradio_client; text is counted when it reaches the client."""
    from gradio_client import Client

    client = Client(url, verbose=False)

    def answer(tokens: int) -> Speed:
        client.reset_session()
        started, points = time.perf_counter(), list[TextPoint]()
        job = client.submit(QUESTION, model_id, "", 0.0, 1.0, tokens, api_name="/chat")
        # The job's own iterators poll a thousand times per second, or twice; fifty times is precise and cheap.
        while not job.done():
            time.sleep(0.02)
            outputs = job.outputs()
            text = _answer_text(outputs[-1][1]) if outputs else ""
            if text and (not points or len(text) > points[-1][1]):
                points.append((time.perf_counter(), len(text)))
        return measure_speed(started, points, tokens)

    yield answer


def _answer_text(chatbot: list[dict[str, Any]]) -> str:
    """Return the text of the answer to the first question; "" while it is pending."""
    return str(chatbot[1]["content"]) if len(chatbot) > 1 else ""


WATCH = """() => {
  const watch = window.phi3Bench = { points: [], shown: "" };
  const look = () => {
    const answer = [...document.querySelectorAll('#phi3-chat [data-testid="bot"]')][0];
    const text = !answer || answer.querySelector(".phi3-wait, .phi3-by") ? "" : answer.textContent;
    if (text && text !== watch.shown) { watch.shown = text; watch.points.push([performance.now() / 1000, text.length]); }
  };
  new MutationObserver(look).observe(document.querySelector("#phi3-chat"), { childList: true, subtree: true, characterData: true });
}"""


@contextmanager
def open_browser(page: Any, model: str) -> Iterator[AnswerPath]:
    """Open the page in Chromium on the same cores, with the model of this name; text is counted when the page displays it."""
    from tests.support.chat_page import ChatPage

    chat = ChatPage(page).wait_until_ready().pick(model)
    page.evaluate(WATCH)

    def answer(tokens: int) -> Speed:
        chat.start_new_chat()
        chat.set_setting("Temperature", 0)  # a new chat starts with the defaults
        chat.set_setting("Max tokens", tokens)
        page.evaluate("() => { phi3Bench.points = []; phi3Bench.shown = ''; }")
        chat.message.fill(QUESTION)
        started = page.evaluate("performance.now() / 1000")
        chat.send.click()
        chat.wait_for_caption(1)
        if f" {tokens} out " not in (caption := chat.captions.inner_text()):
            raise RuntimeError(f"the answer does not have {tokens} tokens: {caption}")
        return measure_speed(started, page.evaluate("phi3Bench.points"), tokens)

    yield answer
