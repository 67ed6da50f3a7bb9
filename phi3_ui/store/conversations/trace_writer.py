"""Executes operations on the traces of one store."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mlflow.entities import ExperimentTag
from mlflow.exceptions import MlflowException
from mlflow.tracing.client import TracingClient

from phi3_ui.chat.conversation import Feedback
from phi3_ui.errors import UserError
from phi3_ui.store.conversations.location import ChatLocation
from phi3_ui.store.conversations.operations import (
    ConversationDeletion,
    FeedbackChange,
    Step,
    TagChange,
    TurnRecord,
    VoteRecord,
)
from phi3_ui.store.conversations.prompt_restorer import PromptRestorer
from phi3_ui.store.conversations.storable_text import make_storable
from phi3_ui.store.conversations.trace_reader import find_assessment, find_preference
from phi3_ui.store.conversations.traces import (
    SESSION_KEY,
    USER_KEY,
    build_assessment,
    build_preference,
    build_spans,
    build_trace_info,
    trace_id_for,
)
from phi3_ui.store.errors import find_obstacle, is_missing, translate_store_errors
from phi3_ui.store.query import metadata_filter

_PAGE_SIZE = 500
_PROBE_TAG = "phi3_ui.recorder"  # a tag of the experiment, set to find out whether the store accepts writes


class TraceWriter:
    """Executes operations, all of which are idempotent. Methods raise UserError: store_unreachable, store_read_only, experiment_deleted."""

    def __init__(self, locate: Callable[[], ChatLocation]) -> None:
        self._locate = locate
        self._restorer = PromptRestorer(locate)

    def write(self, operation: Step) -> None:
        """Execute an operation. Feedback, tags and votes for a trace that no longer exists are ignored."""
        location, operation = self._locate(), make_storable(operation)
        if isinstance(operation, TurnRecord) and operation.messages is None:
            operation = self._restorer.restore(operation)
        with translate_store_errors(location.tracking_uri):
            _write(TracingClient(location.tracking_uri), location.experiment_id, operation)

    def find_obstacle(self) -> UserError | None:
        """Return why the store accepts no writes at all; None if it does."""
        try:
            location = self._locate()
            if obstacle := find_obstacle(location.tracking_uri, location.experiment_id):
                return obstacle
            with translate_store_errors(location.tracking_uri):
                store = TracingClient(location.tracking_uri).store
                store.set_experiment_tag(location.experiment_id, ExperimentTag(_PROBE_TAG, "1"))
        except UserError as error:
            return error
        return None


def _write(client: TracingClient, experiment: str, operation: Step) -> None:
    match operation:
        case TurnRecord():
            client.start_trace(build_trace_info(operation, experiment))
            client.log_spans(experiment, build_spans(operation))
        case FeedbackChange(visitor_id, _, turn_id, feedback):
            with _ignore_missing():
                _set_feedback(client, visitor_id, trace_id_for(turn_id), feedback)
        case TagChange(_, _, turn_id, key, value):
            with _ignore_missing():
                trace_id = trace_id_for(turn_id)
                client.get_trace_info(trace_id)  # raises if the trace is missing, unlike the next call
                client.set_trace_tag(trace_id, key, value)
        case VoteRecord():
            for place, turn_id in enumerate(operation.turn_ids):
                with _ignore_missing():
                    _write_preference(client, trace_id_for(turn_id), operation, place)
        case ConversationDeletion(visitor_id, conversation_id):
            _delete(client, experiment, visitor_id, conversation_id)


def _set_feedback(client: TracingClient, visitor_id: str, trace_id: str, feedback: Feedback | None) -> None:
    known = find_assessment(client.get_trace_info(trace_id))
    if feedback is None:
        if known and known.assessment_id:
            client.delete_assessment(trace_id, known.assessment_id)
    elif known and known.assessment_id:
        client.update_assessment(trace_id, known.assessment_id, build_assessment(visitor_id, feedback))
    else:
        client.log_assessment(trace_id, build_assessment(visitor_id, feedback))


def _write_preference(client: TracingClient, trace_id: str, vote: VoteRecord, place: int) -> None:
    """Write a verdict, unless there is one: a vote is final."""
    if not find_preference(client.get_trace_info(trace_id)):
        client.log_assessment(trace_id, build_preference(vote, place))


def _delete(client: TracingClient, experiment: str, visitor_id: str, conversation_id: str) -> None:
    query = metadata_filter({SESSION_KEY: conversation_id, USER_KEY: visitor_id})
    # Always request the first page: the deletion moves the next traces there.
    while found := client.search_traces(
        locations=[experiment], filter_string=query, max_results=_PAGE_SIZE, include_spans=False
    ):
        client.delete_traces(experiment, trace_ids=[trace.info.trace_id for trace in found])


@contextmanager
def _ignore_missing() -> Iterator[None]:
    """Ignore that the trace to change has been deleted meanwhile."""
    try:
        yield
    except MlflowException as error:
        if not is_missing(error):
            raise
