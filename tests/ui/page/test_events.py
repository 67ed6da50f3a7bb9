"""Every notice reaches the person: Gradio shows those of queued events alone."""

import dis
import functools
import inspect
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType, MethodType, ModuleType, SimpleNamespace
from typing import Any, cast

import pytest
from anyio.from_thread import start_blocking_portal

from phi3_ui.settings import Settings
from phi3_ui.ui import notices
from phi3_ui.ui.page.layout import build_ui
from tests.ui.handlers.doubles import App

_NOTICES = {notices.show_warning, notices.show_info}


def may_notify(handler: Callable[..., Any]) -> bool:
    """Whether a handler calls, perhaps through others, what shows a notice."""
    reached, found = set[Callable[..., Any]](), [handler]
    while found:
        if (one := found.pop()) not in reached:
            reached.add(one)
            found += find_calls(one)
    return not _NOTICES.isdisjoint(reached)


@functools.cache
def find_calls(function: Callable[..., Any]) -> list[Callable[..., Any]]:
    """The project's functions that a function may call: its module's, its object's, and those of what that holds."""
    plain = inspect.unwrap(getattr(function, "__func__", function))
    found = list[Any]()
    for read in list_reads(plain.__code__, getattr(function, "__self__", None), plain.__globals__):
        found += read.values() if isinstance(read, dict) else [read]
    return [
        one for one in found if isinstance(one, FunctionType | MethodType) and one.__module__.startswith("phi3_ui.")
    ]


def list_reads(code: CodeType, owner: object, names: dict[str, Any]) -> Iterator[Any]:
    """What a function reads of its module's names and, through attributes, of `self`; also in the functions within it."""
    value: Any = None
    for instruction in dis.get_instructions(code):
        match instruction.opname, instruction.argval:
            case "LOAD_FAST" | "LOAD_DEREF", "self":
                value = owner
            case "LOAD_GLOBAL", name:
                value = names.get(name)
            case "LOAD_ATTR" | "LOAD_METHOD", name:
                value = (
                    None if isinstance(value, ModuleType) else getattr(value, name, None)
                )  # it may be imported lazily
            case _, CodeType() as inner:
                yield from list_reads(inner, owner, names)
            case _:
                value = None
        yield value


@pytest.fixture(scope="module")
def handlers() -> dict[Callable[..., Any], bool]:
    """The handlers of the page's events, and whether all their events are queued."""
    services = cast(Any, App().services)
    services.settings = Settings.read({})
    services.evaluations = services.imports = SimpleNamespace()
    with start_blocking_portal() as portal:  # Gradio's queue asks for a loop
        events = portal.call(build_ui, services).fns.values()
    found = dict[Callable[..., Any], bool]()
    for event in events:
        if event.fn:
            found[event.fn] = found.get(event.fn, True) and event.queue
    return found


def test_what_may_show_a_notice_is_queued(handlers: dict[Callable[..., Any], bool]) -> None:
    notifying = {handler.__qualname__ for handler in handlers if may_notify(handler)}
    unqueued = {handler.__qualname__ for handler, is_queued in handlers.items() if not is_queued}
    assert {"ChatController.rename", "ChatController.send", "CompareController.act"} <= notifying
    assert notifying & unqueued == set()
