"""Searches one visitor's traces in the store."""

import logging
from collections.abc import Callable, Iterator

from mlflow import MlflowClient
from mlflow.entities import Trace
from mlflow.exceptions import MlflowException

from phi3_ui.store.conversations.location import ChatLocation
from phi3_ui.store.conversations.trace_reader import UnreadableTraceError
from phi3_ui.store.conversations.traces import SESSION_KEY, USER_KEY
from phi3_ui.store.errors import translate_store_errors
from phi3_ui.store.query import metadata_filter, paginate

LARGEST_PAGE = 500  # traces; MLflow's limit
_NEWEST_FIRST = ("timestamp_ms DESC",)

_PARSE_ERRORS = (MlflowException, ValueError, TypeError, KeyError, AttributeError)
_DAMAGED = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST")  # MLflow's error codes for spans that it cannot parse

logger = logging.getLogger(__name__)


class TraceSearch:
    """Reads the traces of one store. Methods raise UserError("store_unreachable"); ids that cannot be quoted in a filter find nothing."""

    def __init__(self, locate: Callable[[], ChatLocation]) -> None:
        self._locate = locate

    def iterate_infos(self, visitor_id: str, page_size: int = LARGEST_PAGE) -> Iterator[Trace]:
        """Yield all traces of a visitor without their spans, newest first."""
        location = self._locate()
        with translate_store_errors(location.tracking_uri):
            yield from _iterate(location, {USER_KEY: visitor_id}, page_size, include_spans=False)

    def list_infos(self, visitor_id: str, conversation_id: str) -> list[Trace]:
        """Return the traces of a conversation without their spans, newest first."""
        location = self._locate()
        with translate_store_errors(location.tracking_uri):
            values = {USER_KEY: visitor_id, SESSION_KEY: conversation_id}
            return list(_iterate(location, values, LARGEST_PAGE, include_spans=False))

    def list_conversation(self, visitor_id: str, conversation_id: str) -> tuple[list[Trace], list[str]]:
        """Return the traces of a conversation with their spans, newest first, and the ids of those whose spans are damaged."""
        values = {USER_KEY: visitor_id, SESSION_KEY: conversation_id}
        location = self._locate()
        with translate_store_errors(location.tracking_uri):
            try:
                return list(_iterate(location, values, LARGEST_PAGE, include_spans=True)), []
            except _PARSE_ERRORS as error:
                # MLflow parses the spans of a whole page together: get the traces one by one to find the damaged ones.
                logger.info("Reading the traces of conversation %s one by one: %r", conversation_id, error)
            readable, damaged = list[Trace](), list[str]()
            for found in _iterate(location, values, LARGEST_PAGE, include_spans=False):
                try:
                    readable.append(self.get(found.info.trace_id))
                except UnreadableTraceError:
                    damaged.append(found.info.trace_id)
            return readable, damaged

    def get(self, trace_id: str) -> Trace:
        """Return a trace with its spans. Raises UnreadableTraceError if MLflow cannot parse them."""
        uri = self._locate().tracking_uri
        with translate_store_errors(uri):
            try:
                trace: Trace = MlflowClient(uri).get_trace(trace_id)
                return trace
            except _PARSE_ERRORS as error:
                if isinstance(error, MlflowException) and error.error_code not in _DAMAGED:
                    raise
                raise UnreadableTraceError("its spans cannot be parsed") from error


def _iterate(location: ChatLocation, values: dict[str, str], page_size: int, include_spans: bool) -> Iterator[Trace]:
    try:
        query = metadata_filter(values)
    except ValueError as error:
        logger.warning("Cannot search for traces: %s", error)
        return
    yield from paginate(
        MlflowClient(location.tracking_uri).search_traces,
        locations=[location.experiment_id],
        filter_string=query,
        max_results=page_size,
        order_by=list(_NEWEST_FIRST),
        include_spans=include_spans,
    )
