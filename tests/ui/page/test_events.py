"""Every notice reaches the user: Gradio shows only those of queued events."""

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
    """Whether a handler shows a notice, directly or through the functions it calls."""
    reached, found = set[Callable[..., Any]](), [handler]
    while found:
        if (callee := found.pop()) not in reached:
            reached.add(callee)
            found += find_calls(callee)
    return not _NOTICES.isdisjoint(reached)


@functools.cache
def find_calls(function: Callable[..., Any]) -> list[Callable[..., Any]]:
    """Return the project's functions that a function may call: those of its module, its object, and the object's attributes."""
    plain = inspect.unwrap(getattr(function, "__func__", function))
    found = list[Any]()
    for referenced in list_reads(plain.__code__, getattr(function, "__self__", None), plain.__globals__):
        found += referenced.values() if isinstance(referenced, dict) else [referenced]
    return [
        value
        for value in found
        if isinstance(value, FunctionType | MethodType) and value.__module__.startswith("phi3_ui.")
    ]


def list_reads(code: CodeType, owner: object, names: dict[str, Any]) -> Iterator[Any]:
    """Return the names of its module and the attributes of `self` that a function reads, including in nested functions."""
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
    """Return the handlers of the page's events, and whether all their events are queued."""
    services = cast(Any, App().services)
    services.settings = Settings.read({})
    services.evaluations = services.imports = SimpleNamespace()
    with start_blocking_portal() as portal:  # Gradio's queue needs an event loop
        events = portal.call(build_ui, services).fns.values()
    found = dict[Callable[..., Any], bool]()
    for event in events:
        if event.fn:
            found[event.fn] = found.get(event.fn, True) and event.queue
    return found


def test_handlers_that_may_show_a_notice_are_queued(handlers: dict[Callable[..., Any], bool]) -> None:
    notifying = {handler.__qualname__ for handler in handlers if may_notify(handler)}
    unqueued = {handler.__qualname__ for handler, is_queued in handlers.items() if not is_queued}
    assert {"ChatController.rename", "ChatController.send", "CompareController.act"} <= notifying
    assert notifying & unqueued == set()
