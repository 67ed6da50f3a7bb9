"""Chats as files: lossless round trips, and a reader that no file can break."""

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

from phi3_ui.chat.conversation import Answer, Conversation, Feedback, Turn, TurnRequest
from phi3_ui.chat.types import ContextUsage
from phi3_ui.errors import SENTENCES, UserError
from phi3_ui.export import chat_file, json_stream, zip_members
from phi3_ui.export.archive import create_archive, to_json, to_markdown
from phi3_ui.export.chat_file import read_chats
from tests.support.conversations import conversations, counts, make_conversation, read_rejection, texts, without_ids


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

    assert [(title, without_ids(conversation)) for title, conversation in read] == [
        (title, without_ids(conversation)) for title, conversation in chats
    ]


@given(st.text(), st.dictionaries(st.text(), st.text() | counts), texts)
def test_an_error_of_another_version_is_imported_and_shown(code: str, values: dict[str, str | int], text: str) -> None:
    conversation = Conversation().with_question("one").with_answer(Answer("m", text, error=(code, values)))

    [(_, read)] = read_chats(to_json(conversation, "").encode())

    error = read.turns[0].answer and read.turns[0].answer.error
    assert error
    assert code in SENTENCES or error[0] == "unexpected"
    assert "Ended: " in to_markdown(conversation, "")


@pytest.mark.parametrize(
    ("content", "detail"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b"\xff\xfe\xfa", "not valid JSON"),
        (b'[{"role": "user", "content": "a", "n": NaN}]', "not valid JSON"),
        (b'[{"role": "user", "content": "a", "n": 1e999}]', "number"),
        (b"[" + b"9" * 5000 + b"]", "number"),
        (b"PK", "damaged"),
        (create_archive([]), "no .json or .jsonl file"),
    ],
)
def test_invalid_content_is_refused(content: bytes, detail: str) -> None:
    assert detail in read_rejection(content)


def test_a_file_that_is_too_large_or_too_deep_is_refused() -> None:
    assert "too deeply" in read_rejection(b"[" * 100_000)
    assert "too large" in read_rejection(b" " * 20_200_000)
    assert "chat 1: it contains no messages" in read_rejection(b"[" + b" " * 10_000_000 + b"{}, 1")
    assert "it is too large" in read_rejection(b'["' + b" " * 22_000_000 + b'"]')
    assert "more than 1000000 characters" in read_rejection(
        json.dumps([{"role": "user", "content": "a" * 1_000_001}]).encode()
    )


@pytest.mark.parametrize(
    "turn",
    [
        Turn("Hi", Answer("m" * 1_000_001, "Hello", finish_reason="stop")),
        Turn("Hi", Answer("m", "", error=("refused", {"model": "m", "detail": "x" * 1_000_001}))),
        Turn("Hi", request=TurnRequest(1.0, "m-1", system="x" * 1_000_001)),
        Turn("Hi", request=TurnRequest(1.0, "m-1", prefix="x" * 1_000_001)),
        Turn("Hi", Answer("m", "Hello", finish_reason="stop"), feedback=Feedback(True, "x" * 1_000_001)),
    ],
    ids=["model", "error", "system", "prefix", "comment"],
)
def test_every_text_of_a_turn_is_limited(turn: Turn) -> None:
    assert "more than 1000000 characters" in read_rejection(to_json(Conversation((turn,), turn.id), "chat").encode())


def test_a_chat_beyond_the_limits_is_skipped_and_the_next_one_is_read() -> None:
    """Empty objects take twenty times their size in memory."""
    dense, deep = b"[" + b"{}," * 100_000 + b"{}]", b"[" * 200 + b"]" * 200
    chat = b'{"messages": [{"role": "user", "content": "Hi"}], "x": %s}'
    refused = list[str]()
    [(title, _)] = read_chats(
        b"[" + b",".join(chat % value for value in (dense, deep, b"1e999", b"1")) + b"]", refused.append
    )
    assert title == "Hi"
    assert [reason.partition(": ")[2] for reason in refused] == [
        "it is too large",
        "it is nested too deeply",
        "it contains a number that is too large",
    ]


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
        (("phi3_ui", "turns"), {}, "turns is not in the format"),
        (("phi3_ui", "turns", 0, "question"), 1, "turns.0.question is not in the format"),
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
def test_an_invalid_field_of_our_json_is_named(path: tuple[str | int, ...], value: Any, detail: str) -> None:
    data = parent = json.loads(to_json(make_conversation(), "t"))
    for key in path[:-1]:
        parent = parent[key]
    parent[path[-1]] = value

    assert detail in read_rejection(json.dumps(data).encode())


def test_format_1_and_the_field_names_of_earlier_versions_are_read() -> None:
    conversation = make_conversation()
    first = replace(conversation.tree[1], answer=Answer("phi", "I", context=ContextUsage(10, 100, 1, 50)))
    conversation = replace(conversation, tree=(conversation.tree[0], first, *conversation.tree[2:]))
    data = json.loads(to_json(conversation, "t"))
    data["phi3_ui"]["format"] = 1
    for turn in data["phi3_ui"]["turns"]:
        turn["asked"] = turn.pop("request")
        turn["asked"]["at"] = turn["asked"].pop("asked_at")
        if turn["answer"] and turn["answer"]["context"]:
            turn["answer"]["context"]["left_out"] = turn["answer"]["context"].pop("omitted_turns")

    [(title, read)] = read_chats(json.dumps(data).encode())

    assert (title, without_ids(read)) == ("t", without_ids(conversation))


def test_cycles_and_duplicate_turns_are_refused() -> None:
    first, second = Turn("1", id="a", parent="b"), Turn("2", id="b", parent="a")

    assert "its parent does not precede it" in read_rejection(to_json(Conversation((first, second)), "").encode())
    assert "is a duplicate" in read_rejection(
        to_json(Conversation((Turn("1", id="a"), Turn("2", id="a"))), "").encode()
    )


def test_an_empty_id_is_valid() -> None:
    tree = Conversation((Turn("1", id=""), Turn("2", id="b", parent="")), "b")

    assert [turn.question for turn in read_chats(to_json(tree, "").encode())[0][1].turns] == ["1", "2"]


def test_lone_surrogates_are_replaced() -> None:
    conversation = Conversation().with_question("a\ud800").with_answer(Answer("m", "\udc00"))

    assert "\na?\n" in to_markdown(conversation, "\ud800")
    assert read_chats(create_archive([("t\ud800", conversation)]))[0][1].turns[0].question == "a?"
    assert read_chats(b'[{"role": "user", "content": "\\ud83d\\ude00 \\ud83d"}]')[0][0] == "\U0001f600 ?"


def _zip(files: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def test_only_the_json_files_of_a_zip_are_read() -> None:
    chat = to_json(make_conversation(), "t").encode()

    read = read_chats(_zip({"__MACOSX/._a.json": b"x", "a/": b"", "a/b.JSON": chat, "a.md": b"x"}))

    assert [title for title, _ in read] == ["t"]
    assert read_rejection(_zip({"a.json": chat, "b.json": b"{"})) == "b.json: it is not valid JSON from here on"


def test_a_list_is_read_chat_by_chat_up_to_the_damage() -> None:
    chats = [json.loads(to_json(make_conversation(), f"{title} é😀")) for title in ("a", "b" * 3000, "c")]
    content = json.dumps(chats, ensure_ascii=False, indent=1).encode()
    expected = [chat["title"] for chat in chats]
    assert [title for title, _ in read_chats(content)] == expected
    assert [title for title, _ in read_chats(_zip({"a.json": content}))] == expected
    refused: list[str] = []
    broken = json.dumps([chats[0], {"x": 1}, chats[2], {"messages": [{"n": math.nan}]}, chats[2]]).encode()
    assert len(read_chats(broken, refused.append)) == 2
    assert refused[0] == "chat 2: it contains no list of messages, but the fields x"
    assert refused[1:] == ["chat 4: it is not valid JSON from here on"]


@given(
    st.lists(
        st.recursive(st.none() | st.floats(allow_nan=False, allow_infinity=False) | st.text(), st.lists, max_leaves=5)
    ),
    st.integers(1, 20),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]),
)
def test_streamed_list_elements_equal_those_of_the_json_module(value: list[object], step: int, encoding: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_stream, "_CHUNK", step)
        for text in (json.dumps(value), json.dumps(value, indent=1), json.dumps(value, ensure_ascii=False)):
            *elements, end = json_stream.iterate_elements(io.BytesIO(text.encode(encoding, errors="replace")))
            assert end.ends_list
            assert [element.value for element in elements] == value


@given(
    st.lists(st.sampled_from(["\\ud83d", "\\ude00", "\\\\", "\\n", "u", "dc00", "x", "\\u0041", '\\"']), max_size=400),
    st.integers(1, 100),
)
def test_lone_surrogates_become_question_marks(pieces: list[str], step: int) -> None:
    content = f'["{"".join(pieces)}"]'
    expected = json.loads(content)[0].encode(errors="replace").decode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_stream, "_CHUNK", step)
        element, _ = json_stream.iterate_elements(io.BytesIO(content.encode()))
    assert element.value == expected


def test_zip_bombs_and_encrypted_zips_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    chat = to_json(make_conversation(), "t").encode()
    encrypted = bytearray(_zip({"a.json": chat}))
    encrypted[encrypted.index(b"PK\1\2") + 8] |= 1

    assert "encrypted" in read_rejection(bytes(encrypted))
    assert "not compressed with deflate" in read_rejection(_zip({"a.json": chat}, zipfile.ZIP_LZMA))
    bomb = _zip({"a.json": b" " * 20_000_000})
    assert len(bomb) < 30_000
    assert "a.json is too large when uncompressed" in read_rejection(bomb)
    size = bomb.index((20_000_000).to_bytes(4, "little"), bomb.index(b"PK\1\2"))
    understated = bomb[:size] + (100).to_bytes(4, "little") + bomb[size + 4 :]
    assert "damaged" in read_rejection(understated) or "too much" in read_rejection(understated)
    monkeypatch.setattr(zip_members, "MAX_UNPACKED", 2 * len(chat) + 500)
    assert "c.json is too large when uncompressed" in read_rejection(
        _zip({"a.json": chat, "b.json": chat, "c.json": chat})
    )
    monkeypatch.setattr(zip_members, "MAX_FILES", 1)
    assert "more than 1 chats" in read_rejection(_zip({"a.json": chat, "b.json": chat}))
    monkeypatch.setattr(zip_members, "_MAX_ENTRIES", 4)
    assert "too large" in read_rejection(_zip({str(number): b"" for number in range(5)}))


def test_chats_and_questions_beyond_the_limit_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    chats = json.dumps([json.loads(to_json(make_conversation(), title)) for title in ("a", "b", "c")]).encode()
    refused = list[str]()
    monkeypatch.setattr(chat_file, "MAX_CHATS", 2)
    assert len(read_chats(chats, refused.append)) == 2
    monkeypatch.setattr(chat_file, "MAX_TURNS", len(make_conversation().tree))
    assert len(read_chats(chats, refused.append)) == 1
    assert [reason.rpartition(": ")[2] for reason in refused] == [
        "the file contains more than 2 chats; the rest is left out",
        f"there are more than {len(make_conversation().tree)} questions; the rest is left out",
    ]


@given(st.data())
def test_a_damaged_file_is_read_or_refused(data: st.DataObject) -> None:
    content = data.draw(st.sampled_from([_ARCHIVE, to_json(make_conversation(), "t").encode()]))
    for _ in range(data.draw(st.integers(1, 3))):
        index = data.draw(st.integers(0, len(content) - 1))
        content = content[:index] + data.draw(st.binary(max_size=2)) + content[index + data.draw(st.integers(0, 2)) :]
    with suppress(UserError):
        read_chats(content)


_ARCHIVE = create_archive([("t", make_conversation()), ("t", make_conversation())])
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
    with zipfile.ZipFile(io.BytesIO(create_archive((title, Conversation()) for title in titles))) as archive:
        names = archive.namelist()

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
