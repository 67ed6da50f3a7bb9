"""An evaluation of both demo models logs the metrics that the test computes independently from the traces."""

import difflib
import shutil
from pathlib import Path
from statistics import fmean, median

import pytest
from mlflow import MlflowClient

from phi3_ui.addresses import sqlite_uri
from phi3_ui.chat.types import Message
from phi3_ui.evaluation.evaluations import Evaluations, ModelAccess
from phi3_ui.evaluation.plan import list_candidates, plan_evaluation
from phi3_ui.evaluation.prompt_set import PromptRecord, PromptSet
from phi3_ui.host.pool import Pool
from phi3_ui.store.conversations.location import ChatLocation
from tests.conftest import Demo

_WORDS = ["sun", "moon", "sea", "tree", "bird", "fish", "stone", "river", "cloud", "snow"]
_RECORDS = tuple(
    PromptRecord(
        (Message("user", f"Repeat the word {word}{number}."),), {"expected_response": f"The word is {word}{number}."}
    )
    for number in range(5)
    for word in _WORDS
)


def test_metrics_of_both_models_equal_those_computed_from_the_traces(demo: Demo, pool: Pool, tmp_path: Path) -> None:
    uri = sqlite_uri(tmp_path / "mlflow.db")
    shutil.copy(demo.settings.home / "mlflow.db", tmp_path / "mlflow.db")
    client = MlflowClient(uri)
    location = ChatLocation(uri, client.create_experiment("evaluation", (tmp_path / "artifacts").as_uri()))
    models = [(contract, demo.entry(contract)) for contract in ("prompt", "chat")]
    specs = {demo.entry(contract).model_id: demo.spec(contract) for contract in ("prompt", "chat")}
    access = ModelAccess(demo.catalogue.find, lambda _: None, lambda entry, _: pool.get_model(specs[entry.model_id]))
    plan = plan_evaluation(
        PromptSet("", "words", 1, _RECORDS),
        list_candidates(models, ("precise",), {"max_tokens": 2}),
        scorers=("contains=word", "similarity", "length=..1"),
    )
    evaluation = Evaluations(lambda: location, access, tmp_path / "locks", lambda: "").start(plan, _RECORDS)
    assert evaluation.wait(300)
    assert evaluation.progress.error is None

    for run_id, (_, entry) in zip(evaluation.run_ids, models, strict=True):
        run = client.get_run(run_id)
        assert run.inputs
        assert [model_input.model_id for model_input in run.inputs.model_inputs] == [entry.model_id]
        traces = client.search_traces(
            locations=[location.experiment_id], filter_string=f"metadata.`mlflow.sourceRun` = '{run_id}'"
        )
        assert len(traces) == 50
        expected_texts = {record.question: record.expectations["expected_response"] for record in _RECORDS}
        texts, similarities, first_token_seconds, seconds = list[str](), list[float](), list[float](), list[float]()
        tokens = 0
        for trace in traces:
            root = trace.data.spans[0]
            question = root.inputs["messages"][-1]["content"]
            texts.append(root.outputs["choices"][0]["message"]["content"])
            words = [text.lower().split() for text in (texts[-1], expected_texts[question])]
            similarities.append(difflib.SequenceMatcher(None, words[0], words[1], autojunk=False).ratio())
            answer = root.attributes["phi3_ui.turn"]["answer"]
            first_token_seconds.append(answer["timings"]["time_to_first_token"])
            seconds.append(answer["timings"]["seconds"])
            tokens += answer["usage"]["completion_tokens"]
        metrics = run.data.metrics
        expected_metrics = {
            "answers": 50,
            "failures": 0,
            "contains": fmean("word" in text.casefold() for text in texts),
            "length": fmean(len(text.split()) <= 1 for text in texts),
            "similarity": fmean(similarities),
            "p50_first_token": median(first_token_seconds),
            "mean_seconds": fmean(seconds),
            "completion_tokens": tokens,
        }
        assert {name: metrics[name] for name in expected_metrics} == pytest.approx(expected_metrics)
        assert metrics["contains/mean"] == metrics["contains"], "MLflow computes this one"
