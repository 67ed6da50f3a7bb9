"""Turns an exception that ended an answer into the process's report: a code of errors.SENTENCES, and a detail."""

from models.chat_template import TemplateError
from phi3_ui.chat.context import PromptTooLongError
from phi3_ui.contracts.parsing import NoTextError
from phi3_ui.host.protocol import MAX_DETAIL, AnswerErrorCode, AnswerFailed
from phi3_ui.prompts.templates import NoTemplateError
from phi3_ui.prompts.tokenization import SystemPromptError

_ERROR_CODES: tuple[tuple[type[BaseException], AnswerErrorCode], ...] = (
    (NoTemplateError, "no_template"),
    (SystemPromptError, "system_prompt_rejected"),
    (TemplateError, "bad_template"),
    (PromptTooLongError, "context_exceeded"),
    (NoTextError, "no_text"),
    (SystemExit, "exited"),
)
_REFUSALS = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST")


class AnswerFailedError(Exception):
    """Ends an answer with a failure that is already described."""

    def __init__(self, failure: AnswerFailed) -> None:
        super().__init__(failure.detail)
        self.failure = failure


def describe_failure(error: BaseException) -> AnswerFailed:
    """Return the failure to report to the app for an exception raised while answering."""
    if isinstance(error, AnswerFailedError):
        return error.failure
    return AnswerFailed(error_code(error), error_summary(error))


def error_code(error: BaseException) -> AnswerErrorCode:
    """Return the key of errors.SENTENCES that fits an exception raised while answering."""
    for kind, code in _ERROR_CODES:
        if isinstance(error, kind):
            return code
    return "refused" if getattr(error, "error_code", "") in _REFUSALS else "answer_failed"


def error_summary(error: BaseException) -> str:
    """Return the first line of an exception's message, shortened."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:MAX_DETAIL].rstrip(".").encode("utf-8", "replace").decode("utf-8")
