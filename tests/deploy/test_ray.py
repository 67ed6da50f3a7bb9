"""The API on Ray Serve with two replicas of a model on this machine."""

import os
import signal
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil
import pytest

from phi3_ui.store.registry.versions import Registry
from phi3_ui.testing import Gate, Reply, ScriptedModel, log_scripted_model
from tests.support.app_server import wait_until
from tests.support.build_cache import create_store
from tests.support.ray_server import RayServer, serve_ray
from tests.support.trust import approve_models

if TYPE_CHECKING:  # a second of CPU time, in each process that collects the tests
    import openai
    from openai.types.chat import ChatCompletionChunk, ChatCompletionMessageParam

pytestmark = pytest.mark.server

NAME = "story"
START_SECONDS = 300


@dataclass
class Cluster:
    """A running cluster whose champion is the first of two versions."""

    server: RayServer
    versions: list[ScriptedModel]
    registry: Registry
    client: "openai.OpenAI"

    def ask(self, *texts: str) -> str:
        """Return the answer to these messages, alternately of the user and the assistant."""
        return (
            self.client.chat.completions.create(model=f"{NAME}@champion", messages=chat(*texts))
            .choices[0]
            .message.content
            or ""
        )

    def hold_answer(
        self, model: ScriptedModel, question: str = "Tell me."
    ) -> tuple[Iterator["ChatCompletionChunk"], Gate]:
        """Request an answer, receive "Once upon ", and return the stream and the gate that holds back "a time."."""
        gate = model.create_gate()
        model.enqueue(Reply("Once upon ", gate, "a time.", question=question))
        stream = iter(
            self.client.chat.completions.create(model=f"{NAME}@champion", messages=chat(question), stream=True)
        )
        text = ""
        while text != "Once upon ":
            text += join_text([next(stream)])
        return stream, gate


def join_text(stream: Iterable["ChatCompletionChunk"]) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)


def chat(*texts: str) -> list["ChatCompletionMessageParam"]:
    return [
        {"role": "assistant", "content": text} if number % 2 else {"role": "user", "content": text}
        for number, text in enumerate(texts)
    ]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    import openai

    home = tmp_path_factory.mktemp("ray")
    uri = create_store(home)
    registry = Registry(uri)
    versions = [log_scripted_model(uri, home, f"story-{version}") for version in (1, 2)]
    for model in versions:
        registry.register_model(model.model_id, NAME)
    registry.promote(NAME, "1", "champion")
    approve_models(uri, home)
    with (
        serve_ray(home, home / "ray.log", 2, PHI3_UI_RAY_HEALTH_SECONDS="1") as server,
        openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client,
    ):
        yield Cluster(server, versions, registry, client)


def test_an_answer_is_streamed_with_its_usage(cluster: Cluster) -> None:
    import openai

    assert {one.id for one in cluster.client.models.list()} == {
        f"{NAME}@champion",
        f"{NAME}/1",
        "story-1",
        cluster.versions[0].model_id,
    }
    cluster.versions[0].enqueue(Reply("Once upon a time."))
    chunks = list(
        cluster.client.chat.completions.create(
            model=f"{NAME}@champion",
            messages=chat("Tell me a story."),
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    assert join_text(chunks) == "Once upon a time."
    assert chunks[-1].usage
    assert chunks[-1].usage.completion_tokens == 5
    with pytest.raises(openai.NotFoundError, match="GET /v1/models"):
        cluster.client.chat.completions.create(model=f"{NAME}/2", messages=chat("Hello"))


def test_the_turns_of_a_chat_go_to_one_replica(cluster: Cluster) -> None:
    model = cluster.versions[0]
    pids = set[int]()
    for number in range(12):
        model.reset()
        texts = [f"Chat {number}"]
        for turn in range(3):
            texts += [cluster.ask(*texts), f"Turn {turn}"]
        chat_pids = {request.pid for request in model.requests}
        assert len(chat_pids) == 1
        pids |= chat_pids
    assert len(pids) == 2


def test_a_client_disconnect_cancels_the_answer_on_the_replica(cluster: Cluster) -> None:
    model = cluster.versions[0]
    model.enqueue(Reply("on and ", endless=True, seconds_per_token=0.01))
    before = cluster.server.count("phi3_tokens_total")
    with cluster.client.chat.completions.create(
        model=f"{NAME}@champion", messages=chat("Count."), stream=True, max_tokens=100_000
    ) as stream:
        next(stream)
    wait_until(lambda: cluster.server.count('phi3_answers_total{model="story-1",outcome="cancelled"}') == 1)
    # Only the replica counts tokens, so it has ended the answer itself.
    assert cluster.server.count("phi3_tokens_total") > before


def test_answers_of_a_killed_replica_fail_and_others_continue(cluster: Cluster) -> None:
    import openai

    model = cluster.versions[0]
    model.reset()
    held, pids = list[tuple[Iterator["ChatCompletionChunk"], Gate]](), list[int]()
    while len(set(pids)) < 2:  # one answer on each replica
        held.append(cluster.hold_answer(model, f"Story {len(held)}"))
        pids.append(model.requests[-1].pid)
    killed = pids[0]
    replica = psutil.Process(killed).parent()
    assert replica
    os.kill(replica.pid, signal.SIGKILL)
    with pytest.raises(openai.APIError, match="Ask again"):
        list(held[0][0])
    wait_until(lambda: not psutil.pid_exists(killed))
    assert cluster.ask("Story 0", "", "Go on") == "Go on"
    survivor = model.requests[-1].pid
    assert survivor != killed
    for (stream, gate), pid in zip(held, pids, strict=True):
        gate.open()
        if pid != killed:
            assert join_text(stream) == "a time."


def test_a_promotion_replaces_the_replicas_without_losing_an_answer(cluster: Cluster) -> None:
    first, second = cluster.versions
    first.reset()
    stream, gate = cluster.hold_answer(first)
    pid = first.requests[-1].pid
    cluster.registry.promote(NAME, "2", "champion")

    def is_promoted() -> bool:
        assert cluster.ask("Who are you?") == "Who are you?"  # never refused
        return any(request.question == "Who are you?" for request in second.requests)

    wait_until(is_promoted, START_SECONDS)
    wait_until(lambda: f"{NAME}/1" not in {one.id for one in cluster.client.models.list()}, START_SECONDS)
    gate.open()
    assert join_text(stream) == "a time."
    wait_until(lambda: not psutil.pid_exists(pid), START_SECONDS)


def test_a_shutdown_completes_running_answers(cluster: Cluster) -> None:
    model = cluster.versions[1]
    model.reset()
    stream, gate = cluster.hold_answer(model)
    cluster.server.process.terminate()
    wait_until(lambda: not cluster.server.is_ready)
    gate.open()
    assert join_text(stream) == "a time."
    cluster.server.process.wait(timeout=120)
