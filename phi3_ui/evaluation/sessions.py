"""Session evaluation: a whole conversation is replayed on a candidate, whose answers stay in the history that it is asked with.

MLflow's ConversationSimulator conducts the conversation. Its user is scripted: it asks the recorded questions and nothing else, so no
language model plays the user, and none is asked whether a goal was reached.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import mlflow

from phi3_ui.chat.conversation import Conversation
from phi3_ui.chat.types import Message
from phi3_ui.evaluation.prompt_set import EXPECTED_RESPONSE, PromptRecord, PromptSet
from phi3_ui.store.conversations.traces import trace_id_for

AnswerTurn = Callable[[int, tuple[Message, ...]], tuple[str, str]]
"""Answers a turn, counted from 0, after a history that ends with its question; returns the text and its trace's id.

An empty text ends the conversation.
"""


@dataclass(frozen=True)
class Session:
    """One recorded conversation."""

    number: int
    """Counted from 0."""
    records: tuple[PromptRecord, ...]
    """Its turns as they were asked; the recorded answers are expected."""

    @property
    def keys(self) -> tuple[str, ...]:
        """Of its turns, also where another conversation begins with the same ones."""
        return tuple(_hash(f"{self.number} {record.key}") for record in self.records)

    def get_id(self, run_id: str, repeat: int) -> str:
        """By which MLflow's UI shows the replayed turns as one session."""
        return _hash(f"{run_id} {self.number} {repeat}")


def build_session_records(conversation: Conversation) -> list[PromptRecord]:
    """The shown branch, turn by turn. What is expected of each is the recorded answer, if there is one."""
    records = []
    for turn in conversation.turns:
        system = turn.request.system if turn.request else ""
        text = turn.answer.text if turn.answer and not turn.answer.error else ""
        messages = conversation.truncated_at(turn.id).build_messages(system)
        records.append(PromptRecord(messages, {EXPECTED_RESPONSE: text} if text else {}, trace_id_for(turn.id)))
    return records


def collect_sessions(name: str, conversations: Sequence[Conversation]) -> tuple[PromptSet, tuple[int, ...]]:
    """The turns of conversations as one set, and how many each has, for EvaluationPlan.session_turns."""
    turns = [build_session_records(one) for one in conversations]
    turns = [records for records in turns if records]
    records = tuple(record for of_one in turns for record in of_one)
    return PromptSet("", name, 0, records), tuple(map(len, turns))


def list_sessions(session_turns: Sequence[int], records: Sequence[PromptRecord]) -> Iterator[Session]:
    """The conversations that a plan's records make up."""
    start = 0
    for number, turns in enumerate(session_turns):
        yield Session(number, tuple(records[start : start + turns]))
        start += turns


def replay_session(run_id: str, session: Session, answer: AnswerTurn) -> None:
    """Ask the questions of a conversation one after another, in a run of the process's tracking store.

    Args:
        run_id: The run.
        session: The conversation.
        answer: Asks the candidate.
    """
    from mlflow.exceptions import MlflowException
    from mlflow.genai.simulators import BaseSimulatedUserAgent, ConversationSimulator

    class ScriptedUser(BaseSimulatedUserAgent):
        """Asks the recorded questions, which the simulator hands on as its guidelines."""

        def generate_message(self, context: Any) -> str:
            return str(context.simulation_guidelines[context.turn])

    class Replay(ConversationSimulator):
        """Keeps the traces that the answers have, and asks no language model for its opinion."""

        def _invoke_predict_fn(  # type: ignore[override]  # of its many arguments, two matter here
            self, *, input_messages: list[dict[str, str]], turn: int, **_: Any
        ) -> Any:
            history = tuple(
                Message("assistant" if one["role"] == "assistant" else "user", one["content"]) for one in input_messages
            )
            text, trace_id = answer(turn, history)
            return {"choices": [{"message": {"role": "assistant", "content": text}}]}, trace_id

        def _check_goal_achieved(self, *_: Any) -> bool:
            return False

    case = {
        "goal": "Ask the recorded questions.",
        "simulation_guidelines": [record.question for record in session.records],
    }
    simulator = Replay([case], max_turns=len(session.records), user_model="none:/none", user_agent_class=ScriptedUser)
    with mlflow.start_run(run_id=run_id):
        try:
            simulator.simulate(lambda messages: messages)  # which is not called
        except MlflowException as error:
            if "no traces" not in str(error):  # the first answer failed or was cancelled, of which the caller knows
                raise


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
