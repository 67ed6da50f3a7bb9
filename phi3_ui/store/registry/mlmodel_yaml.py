"""A YAML parser for untrusted files: size, depth, aliases and repeated keys are checked before any object is built."""

import re
from dataclasses import dataclass, field, replace
from typing import Any

import yaml  # type: ignore[import-untyped]

_SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

MAX_BYTES = 1_000_000
MAX_DEPTH = 40
MAX_NODES = 100_000
"""The limit of nodes, with every alias counted as a copy of its target."""

_CONSTRUCTOR_ERRORS = (RecursionError, LookupError, AttributeError, ArithmeticError, TypeError)
"""Errors that PyYAML's constructors raise, in addition to YAMLError, for values of the wrong type."""

_LONG_NUMBER = re.compile(r"[-+]?[0-9][0-9_:.]{100,}")
"""YAML 1.1 parses 1:30:00 as a number in base 60, in a time quadratic in its length."""


@dataclass
class _Node:
    """A scalar, or a collection that may not have ended yet."""

    anchor: str | None = None
    is_mapping: bool = False
    nodes: int = 1
    height: int = 1
    children: int = 0
    keys: set[str] = field(default_factory=set)

    def add(self, child: "_Node") -> None:
        self.nodes += child.nodes
        self.height = max(self.height, child.height + 1)
        self.children += 1


def parse_yaml(text: str) -> Any:
    """Parse a YAML document of plain types. Raise ValueError, with the reason, if it is invalid or exceeds a limit."""
    if len(text) > MAX_BYTES:
        raise ValueError(f"it is larger than {MAX_BYTES:,} bytes")
    try:
        _check_events(text)
        return yaml.load(text, _SafeLoader)  # noqa: S506 - it is a safe loader
    except (yaml.YAMLError, *_CONSTRUCTOR_ERRORS) as error:
        raise ValueError(_describe(error)) from error


def is_unambiguous(text: str) -> bool:
    """Return whether both of PyYAML's parsers agree: MLflow uses the slow one, `parse_yaml` the fast one if installed."""
    # Compare the repr, since NaN differs from itself.
    return repr(yaml.load(text, yaml.SafeLoader)) == repr(yaml.load(text, _SafeLoader))  # noqa: S506 - they are safe


def _check_events(text: str) -> None:
    """Raise ValueError if the document is too deep or too large, contains itself, or repeats or merges keys."""
    finished: dict[str, _Node] = {}  # complete nodes, by anchor
    stack = [_Node()]
    for event in yaml.parse(text, _SafeLoader):
        match event:
            case yaml.CollectionStartEvent():
                stack.append(_Node(event.anchor, isinstance(event, yaml.MappingStartEvent)))
                child = None
            case yaml.CollectionEndEvent():
                child = stack.pop()
            case yaml.AliasEvent():
                if event.anchor not in finished:
                    raise ValueError("an alias refers to what contains it")
                child = replace(finished[event.anchor], anchor=None)
            case yaml.ScalarEvent():
                child = _Node(event.anchor)
                _check_key(stack[-1], event.value)
                _check_scalar(event)
            case _:
                continue
        if child:
            stack[-1].add(child)
            if child.anchor:
                finished[child.anchor] = child
        _check_size(stack)


def _check_scalar(event: yaml.ScalarEvent) -> None:
    if event.tag not in (None, "!"):  # MLflow writes no tags, and PyYAML's constructors trust them
        raise ValueError("a value has a tag")
    if event.implicit[0] and _LONG_NUMBER.fullmatch(event.value):
        raise ValueError("a number is too long")


def _check_size(stack: list[_Node]) -> None:
    if len(stack) > MAX_DEPTH or stack[-1].height > MAX_DEPTH:
        raise ValueError(f"it is nested more than {MAX_DEPTH} levels deep")
    if stack[-1].nodes > MAX_NODES:
        raise ValueError(f"it has more than {MAX_NODES:,} values")


def _check_key(parent: _Node, value: str) -> None:
    if not parent.is_mapping or parent.children % 2:
        return
    if value in parent.keys:
        raise ValueError(f"the key {value[:40]!r} is repeated")
    if value == "<<":
        raise ValueError("it merges keys")
    parent.keys.add(value)


def _describe(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or type(error).__name__
    return f"{problem} in line {mark.line + 1}" if mark else str(problem)
