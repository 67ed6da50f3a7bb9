"""Overhead of an evaluation over asking only, and the time for computing ratings from many votes."""

import random
import statistics
import time
from collections.abc import Iterator

from mlflow import MlflowClient

from bench.rows import Bench, Row
from phi3_ui.addresses import sqlite_uri
from phi3_ui.arena.board import build_board
from phi3_ui.chat.chat_model import ChatModel
from phi3_ui.chat.comparison import Preference
from phi3_ui.chat.types import ChatRequest, GenerationParams, Message
from phi3_ui.evaluation import answer_traces, scoring
from phi3_ui.evaluation.answer_traces import AnsweredRequest
from phi3_ui.evaluation.asking import answer_question
from phi3_ui.evaluation.prompt_set import EXPECTED_RESPONSE, PromptRecord
from phi3_ui.evaluation.scorers import parse_scorers
from phi3_ui.evaluation.work import parse_answers
from phi3_ui.store.conversations.location import ChatLocation
from phi3_ui.store.conversations.summaries import TurnMetrics
from phi3_ui.store.conversations.votes import StoredVote

_QUESTIONS, _TOKENS = 10, 120
_VOTES, _MODELS = 10_000, 12
_SCORERS = ("exact_match", "contains", "similarity", "length=..80")


def measure_rows(bench: Bench) -> Iterator[Row]:
    """Measure the total time ÷ the time for asking, on the same answers, so that other load affects both."""
    uri = sqlite_uri(bench.temporary / "evaluation.db")
    client = MlflowClient(uri)
    experiment = client.create_experiment("evaluation", (bench.temporary / "evaluation").as_uri())
    location = ChatLocation(uri, experiment)
    run_id = client.create_run(experiment).info.run_id
    ratios = list[float]()
    with bench.hosted("prompt") as model:
        _evaluate(location, "warm", model, "Hello.")
        for number in range(_QUESTIONS * bench.rounds):
            ratios.append(_evaluate(location, run_id, model, f"Tell me a story about the number {number}."))
    ratio = statistics.median(ratios)
    what = f"answering with {_TOKENS} tokens in an evaluation ÷ asking only"
    yield Row(what, f"{ratio:.3f}", "≤ 1.02", ratio <= 1.02)
    traces = answer_traces.load_traces(location, run_id)
    answers = {one.trace_id: one for one in parse_answers(traces)}
    scorers = [scoring.wrap_scorer(one, answers) for one in parse_scorers(_SCORERS)]
    dataset = {"name": "bench", "digest": "0", "source_type": "local", "source": "{}"}
    started = time.perf_counter()
    scoring.score_traces(location, run_id, None, dataset, traces, answers, scorers)
    each = (time.perf_counter() - started) / len(traces)
    yield Row(f"scoring an answer with {len(scorers)} scorers in mlflow.genai.evaluate", f"{each * 1000:.0f} ms")


def measure_ratings(bench: Bench) -> Iterator[Row]:
    """Time the computation of strengths with bootstrap intervals, the win matrix and the position bias."""
    draw = random.Random(0)
    preferences: tuple[Preference, ...] = (0, 0, 1, "tie")
    votes = [
        StoredVote(
            str(number),
            f"person {number % 50}",
            float(number),
            "Why?",
            tuple(_describe_answer(f"m-{one}") for one in draw.sample(range(_MODELS), 2)),
            draw.choice(preferences),
            None,
            "",
        )
        for number in range(_VOTES)
    ]
    seconds = []
    for _ in range(bench.rounds):
        started = time.perf_counter()
        build_board(votes)
        seconds.append(time.perf_counter() - started)
    median = statistics.median(seconds)
    yield Row(f"ratings of {_VOTES:,} votes on {_MODELS} models", f"{median:.2f} s", "≤ 1 s", median <= 1)


def _describe_answer(model_id: str) -> TurnMetrics:
    return TurnMetrics("", "", 0.0, model_id, model_id, "stop", 10, 100, 0.1, 50.0)


def _evaluate(location: ChatLocation, run_id: str, model: ChatModel, question: str) -> float:
    """Ask a question and store the answer. Return the time for both divided by the time for asking."""
    record = PromptRecord((Message("user", question),), {EXPECTED_RESPONSE: "Once upon a time."})
    request = ChatRequest(record.messages, GenerationParams(_TOKENS, 0.0))
    asked_at, started = time.time(), time.perf_counter()
    answer = answer_question(model, "bench", request)
    answered = time.perf_counter()
    record_to_write = AnsweredRequest(
        run_id, record.key, record, 0, "bench", request.params, asked_at, time.time(), answer
    )
    answer_traces.write_answer(location, record_to_write)
    return (time.perf_counter() - started) / (answered - started)
