"""Chats as files: a round trip loses nothing, and no file breaks the reader."""

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

from phi3_ui.chat.conversation import Answer, Conversation, Turn
from phi3_ui.chat.types import ContextUsage
from phi3_ui.errors import SENTENCES, UserError
from phi3_ui.export import archive as archive_module
from phi3_ui.export import large_lists
from phi3_ui.export.archive import create_archive, read_chats, to_json, to_markdown
from tests.support.conversations import conversations, counts, get_refusal, make_talk, texts, without_ids


@given(conversations(), texts)
def test_a_json_round_trip_loses_nothing(conversation: Conversation, title: str) -> None:
    [(read_title, read)] = read_chats(to_json(conversation, title).encode())

    assert (read_title, without_ids(read)) == (title, without_ids(conversation))
    assert {turn.id for turn in read.tree}.isdisjoint(turn.id for turn in conversation.tree)
    assert all(re.fullmatch("[0-9a-f]{32}", turn.id) for turn in read.tree)


@settings(max_examples=50)
@given(st.lists(st.tuples(texts, conversations()), min_size=1, max_size=4))
def test_an_archive_round_trip_keeps_the_order(chats: list[tuple[str, Conversation]]) -> None:
    read = read_chats(create_archive(chats))

    assert [(title, without_ids(one)) for title, one in read] == [(title, without_ids(one)) for title, one in chats]


@given(st.text(), st.dictionaries(st.text(), st.text() | counts), texts)
def test_an_error_of_another_version_is_shown_and_read(code: str, values: dict[str, str | int], text: str) -> None:
    talk = Conversation().with_question("one").with_answer(Answer("m", text, error=(code, values)))

    [(_, read)] = read_chats(to_json(talk, "").encode())

    error = read.turns[0].answer and read.turns[0].answer.error
    assert error
    assert code in SENTENCES or error[0] == "unexpected"
    assert "Ended: " in to_markdown(talk, "")


@pytest.mark.parametrize(
    ("content", "detail"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\xfe\xfa", "not JSON"),
        (b'[{"role": "user", "content": "a", "n": NaN}]', "number"),
        (b'[{"role": "user", "content": "a", "n": 1e999}]', "number"),
        (b"[" + b"9" * 5000 + b"]", "number"),
        (b"PK", "damaged"),
        (create_archive([]), "no .json or .jsonl file"),
    ],
)
def test_what_cannot_be_parsed_is_refused(content: bytes, detail: str) -> None:
    assert detail in get_refusal(content)


def test_a_file_that_is_too_large_or_too_deep_is_refused() -> None:
    assert "too deeply" in get_refusal(b"[" * 100_000)
    assert "not JSON" in get_refusal(b" " * 20_000_001)
    assert "chat 1: it contains no list of messages" in get_refusal(b"[" + b" " * 20_000_000 + b"{}, 1")
    assert "it is too large" in get_refusal(b'["' + b" " * 22_000_000 + b'"]')
    assert "no list of chats" in get_refusal(b'{"a": "' + b" " * 20_000_000 + b'"}')
    assert "too large" in get_refusal(b" " * 200_000_001)


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
    whole = at = json.loads(to_json(make_talk(), "t"))
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value

    assert detail in get_refusal(json.dumps(whole).encode())


def test_format_1_and_the_field_names_of_earlier_versions_are_read() -> None:
    talk = make_talk()
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

    assert (title, without_ids(read)) == ("t", without_ids(talk))


def test_cycles_and_duplicate_turns_are_refused() -> None:
    one, two = Turn("1", id="a", parent="b"), Turn("2", id="b", parent="a")

    assert "its parent does not precede it" in get_refusal(to_json(Conversation((one, two)), "").encode())
    assert "is a duplicate" in get_refusal(to_json(Conversation((Turn("1", id="a"), Turn("2", id="a"))), "").encode())


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
    chat = to_json(make_talk(), "t").encode()

    read = read_chats(_zip({"__MACOSX/._a.json": b"x", "a/": b"", "a/b.JSON": chat, "a.md": b"x"}))

    assert [title for title, _ in read] == ["t"]
    assert get_refusal(_zip({"a.json": chat, "b.json": b"{"})) == "b.json: it is not JSON"


def test_a_large_list_is_read_chat_by_chat(monkeypatch: pytest.MonkeyPatch) -> None:
    """Long-time users of ChatGPT export 200 MB; the memory for it is that of the file and one chat."""
    chats = [json.loads(to_json(make_talk(), f"{title} é😀")) for title in ("a", "b" * 3000, "c")]
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
    chat = to_json(make_talk(), "t").encode()
    locked = bytearray(_zip({"a.json": chat}))
    locked[locked.index(b"PK\1\2") + 8] |= 1

    assert "encrypted" in get_refusal(bytes(locked))
    assert "not compressed with deflate" in get_refusal(_zip({"a.json": chat}, zipfile.ZIP_LZMA))
    assert "a.json is too large" in get_refusal(_zip({"a.json": b" " * 200_000_001}))
    monkeypatch.setattr(archive_module, "_MAX_TOTAL_BYTES", 2 * len(chat) + 500)
    assert "c.json is too large" in get_refusal(_zip({"a.json": chat, "b.json": chat, "c.json": chat}))
    monkeypatch.setattr(archive_module, "_MAX_CHATS", 1)
    assert "more than 1 chats" in get_refusal(_zip({"a.json": chat, "b.json": chat}))
    assert "too large" in get_refusal(_zip({str(number): b"" for number in range(5)}))


@given(st.data())
def test_a_damaged_file_is_read_or_refused(data: st.DataObject) -> None:
    whole = data.draw(st.sampled_from([_ARCHIVE, to_json(make_talk(), "t").encode()]))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(whole) - 1))
        whole = whole[:at] + data.draw(st.binary(max_size=2)) + whole[at + data.draw(st.integers(0, 2)) :]
    with suppress(UserError):
        read_chats(whole)


_ARCHIVE = create_archive([("t", make_talk()), ("t", make_talk())])
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
