"""Chats as files: a round trip loses nothing, no text breaks the Markdown, no file breaks the reader."""

import io
import json
import math
import re
import unicodedata
import zipfile
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from phi3_ui.chat.conversation import Answer, Conversation, Feedback, Turn, TurnRequest
from phi3_ui.chat.types import ContextUsage, GenerationParams, Timings, Usage
from phi3_ui.errors import SENTENCES, UserError
from phi3_ui.export import archive as archive_module
from phi3_ui.export import large_lists
from phi3_ui.export.archive import create_archive, read_chats, to_json, to_markdown

_counts = st.integers(0, 2**53)
_floats = st.floats(allow_nan=False, allow_infinity=False)
_pieces = [
    "# ",
    "## Question 1\n",
    "```",
    "~~~",
    "> ",
    "- ",
    "<!--",
    "<b>",
    "===",
    "[a]: b",
    "\r",
    "\n",
    "\n\n",
    "    ",
    "`",
    "*",
]
_texts = st.text(max_size=20) | st.lists(st.sampled_from(_pieces) | st.text(max_size=3), max_size=8).map("".join)
_params = st.builds(
    GenerationParams,
    max_tokens=st.none() | _counts,
    temperature=st.none() | _floats,
    stop=st.lists(_texts, max_size=2).map(tuple),
    seed=st.none() | _counts,
)
_errors: st.SearchStrategy[Any] = st.tuples(
    st.just("unexpected"), st.builds(dict, detail=_texts | _counts, other=_texts)
)
_answers = st.builds(
    Answer,
    model=_texts,
    text=_texts,
    usage=st.none() | st.builds(Usage, _counts, _counts, st.none() | _counts),
    timings=st.none() | st.builds(Timings, st.none() | _floats, _floats, st.none() | _floats),
    finish_reason=st.none() | st.sampled_from(["stop", "length", "cancelled", "timeout"]),
    error=st.none() | _errors,
    context=st.none() | st.builds(ContextUsage, _counts, _counts, st.just(0), st.none() | _counts),
    load_seconds=st.none() | _floats,
)
_asked = st.builds(TurnRequest, st.floats(0, 4e9), _texts, _texts, _params, st.none() | _texts)


@st.composite
def _conversations(draw: st.DrawFn) -> Conversation:
    tree = list[Turn]()
    for _ in range(draw(st.integers(0, 5))):
        parent = draw(st.sampled_from([None, *(turn.id for turn in tree)]))
        feedback = draw(st.none() | st.builds(Feedback, st.booleans(), _texts))
        answer = draw(st.none() | _answers)
        tree.append(Turn(draw(_texts), answer, parent=parent, request=draw(st.none() | _asked), feedback=feedback))
    return Conversation(tuple(tree), draw(st.sampled_from([None, *(turn.id for turn in tree)])))


def _without_ids(conversation: Conversation) -> Conversation:
    """Replace the turns' ids by their positions."""
    place: dict[str | None, Any] = {turn.id: str(number) for number, turn in enumerate(conversation.tree)}
    tree = (replace(turn, id=place[turn.id], parent=place.get(turn.parent)) for turn in conversation.tree)
    return Conversation(tuple(tree), place.get(conversation.leaf))


def _talk() -> Conversation:
    """A conversation with two questions, the first in two variants."""
    asked = TurnRequest(1e9, "m-1", "Be brief.", GenerationParams(temperature=0))
    first = (
        Conversation()
        .with_question("one", asked)
        .with_answer(Answer("phi", "1", Usage(37, 5, 12), Timings(0.1, 1, 98.12)))
    )
    talk = first.with_variant(first.turns[0].id, "uno", asked).with_answer(
        Answer("phi", "I", Usage(37, 5, 12), Timings(0.1, 1, 98.12), "length")
    )
    return talk.with_feedback(talk.leaf or "", Feedback(False, "too\nshort")).with_question("two", asked)


def _read(value: Any) -> Conversation:
    return read_chats(json.dumps(value).encode())[0][1]


def _refused(content: bytes) -> str:
    with pytest.raises(UserError) as refused:
        read_chats(content)
    assert refused.value.code == "invalid_chat_file"
    return str(refused.value.values["detail"])


@settings(deadline=None, max_examples=100)
@given(_conversations(), _texts)
def test_a_json_round_trip_loses_nothing(conversation: Conversation, title: str) -> None:
    [(read_title, read)] = read_chats(to_json(conversation, title).encode())

    assert (read_title, _without_ids(read)) == (title, _without_ids(conversation))
    assert {turn.id for turn in read.tree}.isdisjoint(turn.id for turn in conversation.tree)
    assert all(re.fullmatch("[0-9a-f]{32}", turn.id) for turn in read.tree)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(_texts, _conversations()), min_size=1, max_size=4))
def test_an_archive_round_trip_keeps_the_order(chats: list[tuple[str, Conversation]]) -> None:
    read = read_chats(create_archive(chats))

    assert [(title, _without_ids(one)) for title, one in read] == [(title, _without_ids(one)) for title, one in chats]


@settings(deadline=None, max_examples=100)
@given(_conversations(), _texts.filter(lambda text: "\0" not in text))
def test_no_text_adds_a_heading_or_html_to_the_markdown(conversation: Conversation, title: str) -> None:
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(to_markdown(conversation, title))

    headings = [tag for turn in conversation.turns for tag in (["h2", "h3"] if turn.answer else ["h2"])]
    assert [one.tag for one in tokens if one.type == "heading_open" and one.level == 0] == ["h1", *headings]
    assert "".join(part.content for part in tokens[1].children or []) == (" ".join(title.split()) or "Chat")
    kinds = {inner.type for token in tokens for inner in [token, *(token.children or [])]}
    assert not kinds & {"html_block", "html_inline"}


@given(_texts.filter(lambda text: text.strip() and "\0" not in text))
def test_a_markdown_renderer_shows_a_question_as_typed(question: str) -> None:
    tokens = MarkdownIt("commonmark").parse(to_markdown(Conversation().with_question(question), "Chat"))

    [shown] = [token.content for token in tokens if token.type == "fence"]
    assert shown == question.replace("\r\n", "\n").replace("\r", "\n") + "\n"


@settings(deadline=None)
@given(st.text(), st.dictionaries(st.text(), st.text() | _counts), _texts)
def test_an_error_of_another_version_is_shown_and_read(code: str, values: dict[str, str | int], text: str) -> None:
    talk = Conversation().with_question("one").with_answer(Answer("m", text, error=(code, values)))

    [(_, read)] = read_chats(to_json(talk, "").encode())

    error = read.turns[0].answer and read.turns[0].answer.error
    assert error
    assert code in SENTENCES or error[0] == "unexpected"
    assert "Ended: " in to_markdown(talk, "")


def test_markdown_lists_what_is_known_of_an_answer() -> None:
    assert to_markdown(_talk(), "Say *one*") == (
        "# Say \\*one\\*\n\n## Question 1\n\n```\nuno\n```\n\n### Answer 1, phi\n\n> I\n\n"
        "- Tokens: 37 prompt (12 cached), 5 completion\n"
        "- Time to first token: 0.10 s\n- Speed: 98.1 tokens/s\n- Ended: cut at the token limit\n"
        "- Feedback: bad, “too short”\n\n## Question 2\n\n```\ntwo\n```\n\n- Not answered\n"
    )


def test_markdown_contains_texts_unchanged() -> None:
    talk = Conversation().with_question("# a\r\n\r\n```py").with_answer(Answer("", "```html\n<b>\n````"))

    shown = to_markdown(talk, "")

    assert "\n````\n# a\n\n```py\n````\n\n### Answer 1\n" in shown
    assert "\n`````\n```html\n<b>\n````\n`````\n" in shown


def test_the_messages_are_the_shown_branch_in_openai_format() -> None:
    failed = _talk().with_answer(Answer("phi", "", error=("no_model", {})))
    usage = {
        "prompt_tokens": 37,
        "completion_tokens": 5,
        "total_tokens": 42,
        "prompt_tokens_details": {"cached_tokens": 12},
    }

    assert json.loads(to_json(failed, "t"))["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "uno"},
        {"role": "assistant", "content": "I", "model": "phi", "usage": usage, "finish_reason": "length"},
        {"role": "user", "content": "two"},
    ]


def test_openai_messages_are_read_with_model_usage_and_finish_reason() -> None:
    whole = json.loads(to_json(_talk(), "t"))
    read = _read({"messages": whole["messages"]})

    assert [turn.question for turn in read.turns] == ["uno", "two"]
    assert read.turns[0].answer == Answer("phi", "I", Usage(37, 5, 12), finish_reason="length")
    assert [turn.request and turn.request.system for turn in read.turns] == ["Be brief."] * 2
    assert read.turns[1].answer is None


@pytest.mark.parametrize(
    ("said", "turns"),
    [
        ([("user", "a"), ("user", "b"), ("assistant", "B")], [("", "a", None), ("", "b", "B")]),
        ([("assistant", "A"), ("assistant", "B")], [("", "", "A"), ("", "", "B")]),
        ([("user", [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}])], [("", "ab", None)]),
        ([("user", [])], [("", "", None)]),
        ([("system", "s"), ("developer", "t"), ("user", "a")], [("s\n\nt", "a", None)]),
        (
            [("system", "s"), ("user", "a"), ("assistant", "A"), ("system", "t"), ("user", "b")],
            [("s", "a", "A"), ("t", "b", None)],
        ),
        ([("user", "a"), ("assistant", "A"), ("system", "t"), ("assistant", "B")], [("", "a", "A"), ("t", "", "B")]),
    ],
)
def test_messages_in_any_order_become_turns(
    said: list[tuple[str, Any]], turns: list[tuple[str, str, str | None]]
) -> None:
    messages = [{"role": role, "content": content} for role, content in said]

    read = _read(messages)

    assert read.turns == read.tree
    shown = [
        (one.request.system if one.request else "", one.question, one.answer and one.answer.text) for one in read.turns
    ]
    assert shown == turns
    assert _without_ids(_read({"messages": messages, "title": 5})).leaf == _without_ids(read).leaf


def test_imported_messages_are_titled_by_their_title_or_first_question() -> None:
    messages = [{"role": "user", "content": "a\nb"}]

    assert read_chats(json.dumps(messages).encode("utf-16"))[0][0] == "a b"
    assert read_chats(json.dumps({"messages": messages, "title": "T"}).encode("utf-8-sig"))[0][0] == "T"


def _message(**fields: Any) -> dict[str, Any]:
    return {"role": "user", "content": "a", **fields}


@pytest.mark.parametrize(
    ("value", "detail"),
    [
        (5, "list of messages"),
        ({}, "list of messages"),
        ([], "list of messages"),
        ({"messages": {"role": "user"}}, "list of messages"),
        (["a"], "message 1 has an unknown role"),
        ([_message(role="tool")], "message 1 has an unknown role"),
        ([_message(), _message(role=[])], "message 2 has an unknown role"),
        ([_message(content=None)], "message 1 contains something other than text"),
        ([_message(content=[{"type": "image_url", "image_url": {}}])], "other than text"),
        ([_message(content=[{"type": "text"}])], "other than text"),
        ([_message(role="assistant", tool_calls=[{"id": "x"}])], "other than text"),
        ([_message(role="system")], "its last message is a system message"),
        ([_message(), _message(role="system"), _message(role="assistant")], "between a question and its answer"),
    ],
)
def test_anything_but_a_chat_is_refused_with_the_reason(value: Any, detail: str) -> None:
    assert detail in _refused(json.dumps(value).encode())


@pytest.mark.parametrize(
    ("content", "detail"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\xfe\xfa", "not JSON"),
        (b'[{"role": "user", "content": "a", "n": NaN}]', "number"),
        (b'[{"role": "user", "content": "a", "n": 1e999}]', "number"),
        (b"[" + b"9" * 5000 + b"]", "number"),
        (b"[" * 100_000, "too deeply"),
        (b" " * 20_000_001, "not JSON"),
        (b"[" + b" " * 20_000_000 + b"{}, 1", "chat 1: it contains no list of messages"),
        (b'["' + b" " * 22_000_000 + b'"]', "it is too large"),
        (b'{"a": "' + b" " * 20_000_000 + b'"}', "no list of chats"),
        (b" " * 200_000_001, "too large"),
        (b"PK", "damaged"),
        (create_archive([]), "no .json or .jsonl file"),
    ],
)
def test_what_cannot_be_parsed_is_refused(content: bytes, detail: str) -> None:
    assert detail in _refused(content)


@pytest.mark.parametrize(
    ("path", "value", "detail"),
    [
        (("phi3_ui",), 1, "format is unknown"),
        (("phi3_ui", "format"), 3, "newer version"),
        (("phi3_ui", "format"), True, "format is unknown"),
        (("phi3_ui", "format"), 0, "format is unknown"),
        (("title",), None, "title"),
        (("phi3_ui", "leaf"), "x", "its current turn is missing"),
        (("phi3_ui", "leaf"), [], "its current turn is missing"),
        (("phi3_ui", "leaf"), "", "its current turn is missing"),
        (("phi3_ui", "turns"), {}, "turns: "),
        (("phi3_ui", "turns", 0, "question"), 1, "turns.0.question: "),
        (("phi3_ui", "turns", 0, "parent"), "", "turn 1 "),
        (("phi3_ui", "turns", 0, "request", "asked_at"), 1e300, "turn 1 has an invalid timestamp"),
        (("phi3_ui", "turns", 0, "answer", "finish_reason"), "x", "finish_reason"),
        (
            ("phi3_ui", "turns", 0, "answer", "context"),
            {"prompt_tokens": 1, "limit": 1, "omitted_turns": 2, "max_tokens": None},
            "leaves out more turns than there are",
        ),
    ],
)
def test_our_json_is_refused_where_it_is_invalid(path: tuple[str | int, ...], value: Any, detail: str) -> None:
    whole = at = json.loads(to_json(_talk(), "t"))
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value

    assert detail in _refused(json.dumps(whole).encode())


def test_format_1_and_the_field_names_of_earlier_versions_are_read() -> None:
    talk = _talk()
    first = replace(talk.tree[1], answer=Answer("phi", "I", context=ContextUsage(10, 100, 1, 50)))
    talk = replace(talk, tree=(talk.tree[0], first, *talk.tree[2:]))
    whole = json.loads(to_json(talk, "t"))
    whole["phi3_ui"]["format"] = 1
    for turn in whole["phi3_ui"]["turns"]:
        turn["asked"] = turn.pop("request")
        turn["asked"]["at"] = turn["asked"].pop("asked_at")
        if turn["answer"] and turn["answer"]["context"]:
            turn["answer"]["context"]["left_out"] = turn["answer"]["context"].pop("omitted_turns")

    [(title, read)] = read_chats(json.dumps(whole).encode())

    assert (title, _without_ids(read)) == ("t", _without_ids(talk))


def test_cycles_and_duplicate_turns_are_refused() -> None:
    one, two = Turn("1", id="a", parent="b"), Turn("2", id="b", parent="a")

    assert "its parent does not precede it" in _refused(to_json(Conversation((one, two)), "").encode())
    assert "is a duplicate" in _refused(to_json(Conversation((Turn("1", id="a"), Turn("2", id="a"))), "").encode())


def test_an_empty_id_is_valid() -> None:
    tree = Conversation((Turn("1", id=""), Turn("2", id="b", parent="")), "b")

    assert [turn.question for turn in read_chats(to_json(tree, "").encode())[0][1].turns] == ["1", "2"]


def test_lone_surrogates_are_replaced() -> None:
    talk = Conversation().with_question("a\ud800").with_answer(Answer("m", "\udc00"))

    assert "\na?\n" in to_markdown(talk, "\ud800")
    assert read_chats(create_archive([("t\ud800", talk)]))[0][1].turns[0].question == "a?"
    assert read_chats(b'[{"role": "user", "content": "\\ud83d\\ude00 \\ud83d"}]')[0][0] == "\U0001f600 ?"


def _zip(files: dict[str, bytes], packing: int = zipfile.ZIP_DEFLATED) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", packing) as opened:
        for name, content in files.items():
            opened.writestr(name, content)
    return packed.getvalue()


def test_only_the_json_files_of_a_zip_are_read() -> None:
    chat = to_json(_talk(), "t").encode()

    read = read_chats(_zip({"__MACOSX/._a.json": b"x", "a/": b"", "a/b.JSON": chat, "a.md": b"x"}))

    assert [title for title, _ in read] == ["t"]
    assert _refused(_zip({"a.json": chat, "b.json": b"{"})) == "b.json: it is not JSON"


def test_a_large_list_is_read_chat_by_chat(monkeypatch: pytest.MonkeyPatch) -> None:
    """Long-time users of ChatGPT export 200 MB; the memory for it is that of the file and one chat."""
    chats = [json.loads(to_json(_talk(), f"{title} é😀")) for title in ("a", "b" * 3000, "c")]
    content = json.dumps(chats, ensure_ascii=False, indent=1).encode()
    expected = [title for title, _ in read_chats(content)]
    monkeypatch.setattr(archive_module, "_MAX_CHAT_BYTES", len(content) - 1)
    monkeypatch.setattr(large_lists, "_FIRST_BYTES", 7)

    assert [title for title, _ in read_chats(content)] == expected
    assert [title for title, _ in read_chats(_zip({"a.json": content}))] == expected
    refused: list[str] = []
    broken = json.dumps([chats[0], {"x": 1}, {"messages": [{"n": math.nan}]}, chats[2]]).encode()
    monkeypatch.setattr(archive_module, "_MAX_CHAT_BYTES", len(broken) - 20)
    assert len(read_chats(broken, refused.append)) == 2
    assert [reason.partition(":")[0] for reason in refused] == ["chat 2", "chat 3"]
    refused.clear()
    assert len(read_chats(broken[:-9], refused.append)) == 1
    assert refused[-1] == "it is not JSON"


@given(
    st.lists(st.recursive(st.none() | st.floats(allow_nan=False) | st.text(), st.lists, max_leaves=5)),
    st.integers(1, 20),
)
def test_the_elements_of_a_list_are_those_that_a_parser_finds(value: list[object], step: int) -> None:
    for text in (json.dumps(value), json.dumps(value, indent=1), json.dumps(value, ensure_ascii=False)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(large_lists, "_FIRST_BYTES", step)
            content = text.encode(errors="replace")
            assert [json.loads(one) for one in large_lists.split_list(content, 10**6)] == json.loads(content)


def test_zip_bombs_and_encrypted_zips_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    chat = to_json(_talk(), "t").encode()
    locked = bytearray(_zip({"a.json": chat}))
    locked[locked.index(b"PK\1\2") + 8] |= 1

    assert "encrypted" in _refused(bytes(locked))
    assert "not compressed with deflate" in _refused(_zip({"a.json": chat}, zipfile.ZIP_LZMA))
    assert "a.json is too large" in _refused(_zip({"a.json": b" " * 200_000_001}))
    monkeypatch.setattr(archive_module, "_MAX_TOTAL_BYTES", 2 * len(chat) + 500)
    assert "c.json is too large" in _refused(_zip({"a.json": chat, "b.json": chat, "c.json": chat}))
    monkeypatch.setattr(archive_module, "_MAX_CHATS", 1)
    assert "more than 1 chats" in _refused(_zip({"a.json": chat, "b.json": chat}))
    assert "too large" in _refused(_zip({str(number): b"" for number in range(5)}))


def test_a_long_system_prompt_is_not_copied_into_many_turns() -> None:
    messages = [{"role": "system", "content": "s" * 1_000_000}, *[{"role": "user", "content": ""}] * 51]

    assert "system prompt" in _refused(json.dumps(messages).encode())


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_a_damaged_file_is_read_or_refused(data: st.DataObject) -> None:
    whole = data.draw(st.sampled_from([_ARCHIVE, to_json(_talk(), "t").encode()]))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(whole) - 1))
        whole = whole[:at] + data.draw(st.binary(max_size=2)) + whole[at + data.draw(st.integers(0, 2)) :]
    with suppress(UserError):
        read_chats(whole)


_ARCHIVE = create_archive([("t", _talk()), ("t", _talk())])
_titles = st.text(max_size=30) | st.sampled_from(
    [
        "",
        "..",
        "a/b\\c",
        "CON",
        "con.txt",
        "LPT¹",
        "a",
        "A",
        "a (2)",
        "é",
        "e\u0301",
        "ß",
        "SS",
        "x" * 300,
        "é" * 300,
        "-rf",
        "\u202egpj",
    ]
)


@settings(deadline=None, max_examples=100)
@given(st.lists(_titles, max_size=12))
def test_file_names_are_safe_and_unique(titles: list[str]) -> None:
    with zipfile.ZipFile(io.BytesIO(create_archive((title, Conversation()) for title in titles))) as packed:
        names = packed.namelist()

    assert [name.rpartition(".")[2] for name in names] == ["json", "md"] * len(titles)
    for name in names:
        assert not set(name) & set('<>:"/\\|?*')
        assert name.isprintable()
        assert len(name.encode()) <= 140
        assert not re.match(r"(?i)(con|prn|aux|nul|com\d|lpt[\d¹²³])\.|[ .-]", name)
        assert not name.rpartition(".")[0].endswith((" ", "."))
    assert len({unicodedata.normalize("NFD", name.upper()) for name in names}) == len(names)


def test_a_title_stays_readable_in_its_file_name() -> None:
    names = zipfile.ZipFile(
        io.BytesIO(create_archive([("Ce e „ațâță”? 日本/x.", Conversation()), ("nul", Conversation())] * 2))
    )

    assert [name for name in names.namelist() if name.endswith(".md")] == [
        "Ce e „ațâță” 日本 x.md",
        "_nul.md",
        "Ce e „ațâță” 日本 x (2).md",
        "_nul (2).md",
    ]
