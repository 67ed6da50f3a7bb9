"""Carries out operations on the traces of one store."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mlflow.entities import ExperimentTag
from mlflow.exceptions import MlflowException
from mlflow.tracing.client import TracingClient

from phi3_ui.chat.conversation import Feedback
from phi3_ui.errors import UserError
from phi3_ui.store.conversations.operations import (
    ConversationDeletion,
    FeedbackChange,
    Operation,
    TagChange,
    TurnRecord,
)
from phi3_ui.store.conversations.trace_reader import find_assessment
from phi3_ui.store.conversations.traces import (
    SESSION_KEY,
    USER_KEY,
    build_assessment,
    build_spans,
    build_trace_info,
    trace_id_for,
)
from phi3_ui.store.errors import is_missing, translate_store_errors
from phi3_ui.store.query import metadata_filter

_PAGE_SIZE = 500
_PROBE_TAG = "phi3_ui.recorder"  # of the experiment; set to find out whether the store accepts writes


class TraceWriter:
    """Every operation is idempotent. Errors of MLflow's client are not translated."""

    def __init__(self, tracking_uri: str, experiment_id: Callable[[], str]) -> None:
        self._tracking_uri = tracking_uri
        self._experiment_id = experiment_id

    def write(self, operation: Operation) -> None:
        """Carry out an operation. Feedback and tags of a trace that no longer exists are ignored."""
        match operation:
            case TurnRecord():
                experiment = self._experiment_id()
                self._client.start_trace(build_trace_info(operation, experiment))
                self._client.log_spans(experiment, build_spans(operation))
            case FeedbackChange(visitor_id, _, turn_id, feedback):
                with _ignore_missing():
                    self._set_feedback(visitor_id, trace_id_for(turn_id), feedback)
            case TagChange(_, _, turn_id, key, value):
                with _ignore_missing():
                    trace_id = trace_id_for(turn_id)
                    self._client.get_trace_info(trace_id)  # raises if there is none, unlike the next call
                    self._client.set_trace_tag(trace_id, key, value)
            case ConversationDeletion(visitor_id, conversation_id):
                self._delete(visitor_id, conversation_id)

    def is_writable(self) -> bool:
        """Whether the store accepts any write at all."""
        try:
            with translate_store_errors(self._tracking_uri):
                self._client.store.set_experiment_tag(self._experiment_id(), ExperimentTag(_PROBE_TAG, "1"))
        except UserError:
            return False
        return True

    @property
    def _client(self) -> TracingClient:
        return TracingClient(self._tracking_uri)

    def _set_feedback(self, visitor_id: str, trace_id: str, feedback: Feedback | None) -> None:
        known = find_assessment(self._client.get_trace_info(trace_id))
        if feedback is None:
            if known and known.assessment_id:
                self._client.delete_assessment(trace_id, known.assessment_id)
        elif known and known.assessment_id:
            self._client.update_assessment(trace_id, known.assessment_id, build_assessment(visitor_id, feedback))
        else:
            self._client.log_assessment(trace_id, build_assessment(visitor_id, feedback))

    def _delete(self, visitor_id: str, conversation_id: str) -> None:
        experiment = self._experiment_id()
        query = metadata_filter({SESSION_KEY: conversation_id, USER_KEY: visitor_id})
        # Always the first page: the deletion moves the next traces there.
        while found := self._client.search_traces(
            locations=[experiment], filter_string=query, max_results=_PAGE_SIZE, include_spans=False
        ):
            self._client.delete_traces(experiment, trace_ids=[trace.info.trace_id for trace in found])


@contextmanager
def _ignore_missing() -> Iterator[None]:
    """The trace to change may have been deleted meanwhile."""
    try:
        yield
    except MlflowException as error:
        if not is_missing(error):
            raise
