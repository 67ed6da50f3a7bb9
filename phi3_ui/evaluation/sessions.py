"""Session evaluation: replay a whole conversation on a candidate, with the candidate's own answers in the history.

MLflow's ConversationSimulator conducts the conversation. Its user is scripted and only asks the recorded questions, so no
language model plays the user or decides whether a goal was reached.
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
"""Answers a turn (counted from 0), given the history up to and including its question; returns the text and the trace id.

An empty text ends the conversation.
"""


@dataclass(frozen=True)
class Session:
    """One recorded conversation."""

    number: int
    """Counted from 0."""
    records: tuple[PromptRecord, ...]
    """The turns as they were recorded; the recorded answers are the expected ones."""

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of its turns, unique even if another conversation begins with the same turns."""
        return tuple(_hash(f"{self.number} {record.key}") for record in self.records)

    def get_id(self, run_id: str, repeat: int) -> str:
        """Return the id by which MLflow's UI shows the replayed turns as one session."""
        return _hash(f"{run_id} {self.number} {repeat}")


def build_session_records(conversation: Conversation) -> list[PromptRecord]:
    """Return the shown branch, turn by turn. The recorded answer, if there is one, is the expected response."""
    records = []
    for turn in conversation.turns:
        system = turn.request.system if turn.request else ""
        text = turn.answer.text if turn.answer and not turn.answer.error else ""
        messages = conversation.truncated_at(turn.id).build_messages(system)
        records.append(PromptRecord(messages, {EXPECTED_RESPONSE: text} if text else {}, trace_id_for(turn.id)))
    return records


def collect_sessions(name: str, conversations: Sequence[Conversation]) -> tuple[PromptSet, tuple[int, ...]]:
    """Return the turns of all conversations as one set, and the number of turns of each for EvaluationPlan.session_turns."""
    turns = [build_session_records(one) for one in conversations]
    turns = [records for records in turns if records]
    records = tuple(record for of_one in turns for record in of_one)
    return PromptSet("", name, 0, records), tuple(map(len, turns))


def list_sessions(session_turns: Sequence[int], records: Sequence[PromptRecord]) -> Iterator[Session]:
    """Group the records of a plan into conversations."""
    start = 0
    for number, turns in enumerate(session_turns):
        yield Session(number, tuple(records[start : start + turns]))
        start += turns


def replay_session(run_id: str, session: Session, answer: AnswerTurn) -> None:
    """Ask the questions of a conversation in sequence, in a run of the process's tracking store.

    Args:
        run_id: The run.
        session: The conversation.
        answer: Asks the candidate.
    """
    from mlflow.exceptions import MlflowException
    from mlflow.genai.simulators import BaseSimulatedUserAgent, ConversationSimulator

    class ScriptedUser(BaseSimulatedUserAgent):
        """Asks the recorded questions, which the simulator passes on as its guidelines."""

        def generate_message(self, context: Any) -> str:
            return str(context.simulation_guidelines[context.turn])

    class Replay(ConversationSimulator):
        """Keeps the existing traces of the answers, and lets no language model judge the conversation."""

        def _invoke_predict_fn(  # type: ignore[override]  # only two of its many arguments are used
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
            simulator.simulate(lambda messages: messages)  # never called: `_invoke_predict_fn` is overridden
        except MlflowException as error:
            if "no traces" not in str(error):  # the first answer failed or was cancelled, which the caller knows
                raise


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
