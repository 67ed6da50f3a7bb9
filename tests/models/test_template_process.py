"""Templates that take much time or memory are terminated soon, each in its own process; others render as in this process."""

import logging
import resource
import threading
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models import chat_template
from models.chat_template import RejectionError, TemplateError, TemplateLimitError, render_chat_template
from models.template_environment import render_template
from models.template_process import MEMORY, render_in_child

NOW = datetime(2024, 2, 29, 12, 30, 1, 5)
HI: list[dict[str, Any]] = [{"role": "user", "content": "Hi"}]

BOMBS = {
    "nested loops": "{% for a in range(90000) %}{% for b in range(90000) %}{% for c in range(90000) %}{{ '' }}{% endfor %}{% endfor %}{% endfor %}",
    "filtered loop": "{% for a in range(90000) %}{% for b in range(90000) if false %}{% endfor %}{% endfor %}",
    "loops over lists": "{% set x = [1] * 9999 %}{% for a in x %}{% for b in x %}{% for c in x %}{% endfor %}{% endfor %}{% endfor %}",
    "output": "{% for a in range(90000) %}{% for b in range(90000) %}aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa{% endfor %}{% endfor %}",
    "doubled text": "{% set ns = namespace(x='A') %}{% for a in range(40) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}{{ ns.x }}",
    "doubled list": "{% set ns = namespace(x=[1]) %}{% for a in range(40) %}{% set ns.x = ns.x + ns.x %}{% endfor %}{{ ns.x }}",
    "list of itself": "{% set ns = namespace(x=['lol']) %}{% for a in range(40) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}",
    "json of itself": "{% set ns = namespace(x=['lol']) %}{% for a in range(40) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x | tojson }}",
    "constant text": "{{ 'a' * 10**10 }}",
    "text": "{{ messages[0].content * 10**10 }}",
    "list": "{{ messages * 10**10 }}",
    "power": "{{ 9 ** (9 ** 9) }}",
    "power of a variable": "{% set x = messages | length + 8 %}{{ x ** (x ** x) }}",
    "center": "{{ messages[0].content | center(10**10) }}",
    "ljust": "{{ messages[0].content.ljust(10**10) }}",
    "format": "{{ '%9999999999s' | format(messages[0].content) }}",
    "percent": "{{ '%9999999999s' % messages[0].content }}",
    "braces": "{{ '{:>9999999999}'.format(messages[0].content) }}",
    "precision": "{{ '%.999999999f' % 1.5 }}",
    "indent": "{{ 'a\\nb' | indent(10**10) }}",
    "batch": "{{ messages | batch(10**10, 'x') | list }}",
    "slice": "{{ messages | slice(10**9) | list }}",
    "join": "{{ range(90000) | join('a' * 10**6) }}",
    "replace": "{% set x = 'a' * 10**6 %}{{ x | replace('a', x) }}",
    "json indent": "{{ messages | tojson(indent=10**10) }}",
    "date": "{{ strftime_now('%9999999999Y') }}{% for a in range(99999) %}{{ strftime_now('%c' * 9999) }}{% endfor %}",
    "lorem ipsum": "{{ lipsum(n=10**7) }}",
    "macro": "{% macro f(n) %}{{ f(n) }}{{ f(n) }}{% endmacro %}{{ f(1) }}",
    "macro tree": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "recursive loop": "{% for a in [1, 1] recursive %}{{ loop([1, 1]) }}{% endfor %}",
    "call block": "{% macro f() %}{{ caller() }}{{ caller() }}{% endmacro %}"
    + "{% call f() %}" * 30
    + "a"
    + "{% endcall %}" * 30,
    "sorting": "{% for a in range(90000) %}{% set b = range(90000) | sort | unique | list %}{% endfor %}",
    "adding": "{{ ([messages] * 99999) | sum(start=[]) }}",
    "cube of lists": "{% set x = [[1] * 99999] * 99999 %}{{ x | map('list') | list }}",
    "deep expression": "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "deep blocks": "{% if true %}" * 3000 + "{% endif %}" * 3000,
    "long sum": "{{ 1" + " + 1" * 100_000 + " }}",
    "wrapped lines": "{{ ('a ' * 10**6) | wordwrap(1) | wordwrap(1) | urlize | wordcount }}{{ ('a' * 10**8) | wordwrap(1) }}",
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_terminated_soon(name: str) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)

    with pytest.raises(TemplateError) as caught:
        render_in_child(BOMBS[name], {"messages": HI}, NOW)

    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert str(caught.value)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert seconds < 1.5  # including the start of the interpreter


def test_time_and_memory_limits_are_distinguished() -> None:
    with pytest.raises(TemplateLimitError, match="too long"):
        render_in_child(BOMBS["filtered loop"], {"messages": HI}, NOW)
    with pytest.raises(TemplateLimitError, match="too much memory"):
        render_in_child("{{ messages[0].content * n }}", {"messages": HI, "n": MEMORY // 2}, NOW)
    assert (
        len(render_in_child("{{ messages[0].content * n }}", {"messages": HI, "n": MEMORY // 32}, NOW)) == MEMORY // 16
    )


def test_an_unexpected_end_of_the_process_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("models.template_process._ROOT", "/nowhere")
    monkeypatch.setenv("PYTHONPATH", "")
    monkeypatch.chdir("/")

    with pytest.raises(TemplateLimitError, match="unexpectedly"):
        render_in_child("Hi", {}, NOW)

    assert "No module named" in caplog.text
    assert caplog.records[0].levelno == logging.ERROR


@settings(max_examples=10)
@given(text=st.text(st.characters(exclude_categories=[])))
def test_any_text_passes_unchanged(text: str) -> None:
    variables = {"messages": [{"role": "user", "content": text}], "none": None}

    child = render_in_child("{{ messages[0].content }}{{ none is none }}{{ messages | tojson }}", variables, NOW)

    assert child == render_template(
        "{{ messages[0].content }}{{ none is none }}{{ messages | tojson }}", variables, NOW
    )


def test_a_long_chat_renders() -> None:
    messages = [{"role": "user", "content": "😀" + "long " * 200_000}] * 8
    template = "{% for m in messages %}<|{{ m.role }}|>{{ m.content.split('</think>')[-1] | trim }}{% endfor %}"

    assert render_in_child(template, {"messages": messages}, NOW) == render_template(
        template, {"messages": messages}, NOW
    )


def test_errors_keep_their_kind_and_message() -> None:
    with pytest.raises(RejectionError, match=r"^No system$"):
        render_in_child("{{ raise_exception('No system') }}", {}, NOW)
    with pytest.raises(TemplateError, match="line 1: ") as caught:
        render_in_child("{% for %}", {}, NOW)
    assert type(caught.value) is TemplateError
    assert render_in_child("{{ strftime_now('%d %B %Y %H:%M:%S.%f') }}", {}, NOW) == "29 February 2024 12:30:01.000005"


def test_secrets_do_not_reach_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = dict[str, Any]()

    def stop(*_arguments: Any, env: dict[str, str], **_others: Any) -> None:
        environment.update(env)
        raise OSError

    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "secret")
    monkeypatch.setattr("subprocess.run", stop)
    with pytest.raises(OSError):  # noqa: PT011 (raised by stop)
        render_in_child("", {}, NOW)

    assert "PYTHONPATH" in environment
    assert "secret" not in environment.values()


def test_an_unconfined_process_renders_in_child_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_template, "_is_confined", threading.Event())

    assert render_chat_template("{{ messages[0].content }}{{ bos_token }}", HI, {"bos_token": "<s>"}) == "Hi<s>"
    with pytest.raises(TemplateLimitError):
        render_chat_template(BOMBS["nested loops"], HI, {})
