"""Judges: their prompts, their verdicts, and what is sent to an external one."""

import contextlib
import gzip
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from phi3_ui.errors import UserError
from phi3_ui.evaluation.judge import Judge, build_prompt, judge_with_endpoint
from phi3_ui.evaluation.plan import Candidate, JudgePlan, plan_evaluation
from phi3_ui.evaluation.prompt_set import PromptSet
from phi3_ui.evaluation.scorers import ScoringError
from phi3_ui.evaluation.services import plan_judge
from tests.support.evaluating import TableModel, make_entry, make_record, open_bench

_RECORD = make_record("France?", expected_response="Paris")


@dataclass
class Endpoint:
    """An OpenAI-compatible API that always gives the same answer."""

    url: str
    status: int = 200
    response: Any = field(default_factory=lambda: {"choices": [{"message": {"content": "Yes. It is."}}]})
    bodies: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    encoding: str = "identity"


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            served.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            served.keys.append(self.headers["Authorization"])
            self.send_response(served.status)
            self.send_header("Location", "http://127.0.0.1:9/")
            self.send_header("Content-Encoding", served.encoding)
            self.end_headers()
            with contextlib.suppress(OSError):  # the client disconnects from an endless response
                response = served.response
                self.wfile.write(response if isinstance(response, bytes) else json.dumps(response).encode())

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        served = Endpoint(f"http://127.0.0.1:{server.server_port}/v1")
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield served
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("text", "is_good"), [("Yes, it is.", True), ("**no** – wrong", False), ("I say: NO", False), ("yes/no?", True)]
)
def test_a_verdict_is_the_first_yes_or_no(text: str, is_good: bool) -> None:
    assert Judge("j", lambda _: text).judge(_RECORD, "Paris").is_good == is_good


def test_a_judge_without_a_verdict_gives_no_score() -> None:
    def fail(_: str) -> str:
        raise UserError("model_hung", model="j")

    with pytest.raises(ScoringError, match="neither yes nor no: Nobody knows"):
        Judge("j", lambda _: "Nobody knows").judge(_RECORD, "Paris")
    with pytest.raises(ScoringError, match="stopped responding"):
        Judge("j", fail).judge(_RECORD, "Paris")


def test_the_prompt_contains_the_expected_response_if_known() -> None:
    assert "<expected>\nParis\n</expected>" in build_prompt("c", "q", "a", {"expected_response": "Paris"})
    assert "<expected>" not in build_prompt("c", "{question}", "{answer}", {})


def test_an_endpoint_judges_and_its_key_is_not_stored(
    endpoint: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = open_bench(tmp_path, {"m/1": TableModel()}, judge_key="secret-key")
    plan = plan_evaluation(
        PromptSet("", "capitals", 0, (_RECORD,)), (Candidate("m/1", "m"),), judge=JudgePlan("big", endpoint.url)
    )
    running = bench.evaluations.start(plan, [_RECORD])
    assert running.wait(60)

    (answer,) = bench.evaluations.load_answers(running.run_ids[0])
    assert answer.scores == {"judge": 1.0}
    assert endpoint.keys == ["Bearer secret-key"]
    assert (endpoint.bodies[0]["model"], endpoint.bodies[0]["temperature"]) == ("big", 0)
    MlflowClient(bench.location.tracking_uri).download_artifacts(running.run_ids[0], "", str(tmp_path / "files"))
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert files
    assert not any(b"secret-key" in file.read_bytes() for file in files)


@pytest.mark.parametrize(("status", "response"), [(500, {}), (302, {}), (200, {"choices": []}), (200, [])])
def test_a_failing_endpoint_is_reported(endpoint: Endpoint, status: int, response: object) -> None:
    endpoint.status, endpoint.response = status, response

    with pytest.raises(ScoringError, match="the judge at"):
        judge_with_endpoint(endpoint.url, "big", "", "c").judge(_RECORD, "Paris")
    assert endpoint.keys == [None]


_YES = {"choices": [{"message": {"content": "Yes."}}]}


@pytest.mark.parametrize(
    ("response", "encoding"),
    [
        (gzip.compress(json.dumps(_YES).encode()), "gzip"),
        ({**_YES, "more": "x" * 2_000_000}, "identity"),
        ({**_YES, "more": [0] * 20_000}, "identity"),
        (b"[" * 9000, "identity"),
    ],
    ids=["compressed", "large", "values", "depth"],
)
def test_a_hostile_endpoint_gives_no_score(endpoint: Endpoint, response: object, encoding: str) -> None:
    endpoint.response, endpoint.encoding = response, encoding
    with pytest.raises(ScoringError, match="the judge at"):
        judge_with_endpoint(endpoint.url, "big", "", "c").judge(_RECORD, "Paris")


def test_a_judge_is_a_model_of_the_store_or_a_url() -> None:
    assert plan_judge("", make_entry) is None
    assert plan_judge("m/1", make_entry) == JudgePlan("m/1")
    assert plan_judge(" https://api.example/v1 gpt ", make_entry, "c") == JudgePlan(
        "gpt", "https://api.example/v1", "c"
    )
    with pytest.raises(UserError, match="is not a valid judge"):
        plan_judge("https://api.example/v1", make_entry)
