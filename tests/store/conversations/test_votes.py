"""Votes on rounds: one assessment per answer, written exactly once, and read back for all users."""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow.entities import TraceInfo
from mlflow.tracing.client import TracingClient

from phi3_ui.chat.comparison import Preference, Verdict
from phi3_ui.chat.conversation import Conversation
from phi3_ui.store.conversations import votes
from phi3_ui.store.conversations.history import History
from phi3_ui.store.conversations.recorder import Recorder
from phi3_ui.store.conversations.traces import EXCLUSION_KEY, PLACE_KEY
from phi3_ui.store.conversations.turn_writer import ConversationStore
from phi3_ui.store.conversations.votes import StoredVote, VoteReader, parse_votes
from tests.store.conversations.chats import ME
from tests.store.conversations.recording import TIMEOUT, create_recorder, list_traces, locate_in, read_turn
from tests.store.conversations.rounds import AT, make_round, vote_on
from tests.support.app_server import wait_until

OTHER_USER = "visitor-fedcba9876543210"


def list_votes(uri: str) -> list[StoredVote]:
    return VoteReader(locate_in(uri)).list_votes()


def test_a_vote_is_an_assessment_on_each_answer(uri: str, recorder: Recorder) -> None:
    records = make_round()
    recorder.submit(*records, vote_on(records, 1, reason="Clearer."))
    assert recorder.flush(TIMEOUT)

    found = {trace.info.request_metadata[PLACE_KEY]: trace for trace in list_traces(uri)}
    for position, value in (("0", "lost"), ("1", "won")):
        (assessment,) = found[position].info.assessments
        assert assessment.feedback
        assert (assessment.name, assessment.feedback.value, assessment.rationale) == ("preference", value, "Clearer.")
        assert (assessment.source.source_type, assessment.source.source_id) == ("HUMAN", ME)
        request = read_turn(found[position]).request
        assert request
        assert request.round
        assert (str(request.round.place), request.round.places, request.round.is_blind) == (position, 2, True)
    (vote,) = list_votes(uri)
    assert (vote.voter, vote.voted_at, vote.model_ids) == (ME, AT, ("m-1", "m-2"))
    assert (vote.preference, vote.exclusion, vote.reason) == (1, None, "Clearer.")
    history = History(locate_in(uri), recorder)
    assert history.wait_until_loaded(ME, TIMEOUT)
    assert history.list_votes(ME) == [vote]
    assert history.list_votes(OTHER_USER) == []


@pytest.mark.parametrize("preference", [0, 2, "tie", "both_bad"])
def test_every_preference_is_read_back(uri: str, recorder: Recorder, preference: Preference) -> None:
    records = make_round(models=("m-1", "m-2", "m-3"))
    recorder.submit(*records, vote_on(records, preference, "names_model"))
    assert recorder.flush(TIMEOUT)
    (vote,) = list_votes(uri)
    assert (vote.preference, vote.exclusion, len(vote.model_ids)) == (preference, "names_model", 3)


def test_votes_of_all_users_are_listed_and_rounds_without_a_vote_are_not(uri: str, recorder: Recorder) -> None:
    own_round, other_round = make_round(), make_round(OTHER_USER)
    recorder.submit(*own_round, *other_round, *make_round(), vote_on(own_round, 0), vote_on(other_round, "tie"))
    assert recorder.flush(TIMEOUT)
    assert {(vote.voter, vote.preference) for vote in list_votes(uri)} == {(ME, 0), (OTHER_USER, "tie")}


def test_only_the_first_vote_counts(uri: str, recorder: Recorder) -> None:
    records = make_round()
    for preference in (0, 1):
        recorder.submit(*records, vote_on(records, preference))
        assert recorder.flush(TIMEOUT)
    assert [vote.preference for vote in list_votes(uri)] == [0]
    assert all(len(trace.info.assessments) == 1 for trace in list_traces(uri))


def test_a_vote_waits_for_answers_in_progress(uri: str, recorder: Recorder) -> None:
    first, second = make_round()
    draft = recorder.start_turn(replace(second, turn=replace(second.turn, answer=None)))
    recorder.submit(first, vote_on([first, second], 0))
    assert recorder.flush(TIMEOUT)
    assert list_votes(uri) == []
    recorder.finish_turn(draft, second)
    assert recorder.flush(TIMEOUT)
    assert [vote.preference for vote in list_votes(uri)] == [0]


def test_a_partly_written_vote_is_completed_by_the_next_process(uri: str, tmp_path: Path) -> None:
    records = make_round()
    vote = vote_on(records, 1)
    first = create_recorder(uri, tmp_path / "ended")
    first.submit(*records, vote)
    assert first.flush(TIMEOUT)
    first.close()
    second_trace = next(trace for trace in list_traces(uri) if trace.info.request_metadata[PLACE_KEY] == "1")
    TracingClient(uri).delete_assessment(
        second_trace.info.trace_id, second_trace.info.assessments[0].assessment_id or ""
    )
    assert list_votes(uri) == []

    second = create_recorder(uri, tmp_path / "started")
    second.submit(vote)  # as when recovered from the journal
    assert second.flush(TIMEOUT)
    second.close()

    assert [vote.preference for vote in list_votes(uri)] == [1]
    assert all(len(trace.info.assessments) == 1 for trace in list_traces(uri))


@pytest.mark.parametrize(
    "damage",
    [
        lambda infos: infos[0].trace_metadata.update({PLACE_KEY: "7"}),
        lambda infos: infos[0].trace_metadata.update({PLACE_KEY: "x"}),
        lambda infos: infos[0].trace_metadata.pop("mlflow.trace.user"),
        lambda infos: setattr(infos[0].assessments[0].feedback, "value", "won"),
        lambda infos: infos[0].assessments[0].metadata.update({EXCLUSION_KEY: "none of ours"}),
        lambda infos: infos.append(infos[0]),
    ],
)
def test_a_damaged_vote_is_left_out_and_logged(
    uri: str, recorder: Recorder, damage: Callable[[list[TraceInfo]], object], caplog: pytest.LogCaptureFixture
) -> None:
    damaged, intact = make_round(), make_round()
    recorder.submit(*damaged, *intact, vote_on(damaged, 1, "cut"), vote_on(intact, 0))
    assert recorder.flush(TIMEOUT)
    infos = [trace.info for trace in list_traces(uri)]
    first = {record.turn.id for record in damaged}
    broken = sorted(
        (info for info in infos if info.trace_id.removeprefix("tr-") in first),
        key=lambda info: info.trace_metadata[PLACE_KEY],
    )
    damage(broken)

    with caplog.at_level(logging.WARNING):
        found = list(parse_votes([*broken, *(info for info in infos if info not in broken)]))

    assert [vote.preference for vote in found] == [0]
    assert "damaged" in caplog.text


def test_an_imported_chat_is_part_of_no_round(uri: str, recorder: Recorder) -> None:
    (record, _) = make_round()
    store = ConversationStore(recorder, History(locate_in(uri), recorder), "0")
    store.import_conversation(ME, Conversation((record.turn,), record.turn.id))
    assert recorder.flush(TIMEOUT)
    (trace,) = list_traces(uri)
    assert PLACE_KEY not in trace.info.request_metadata


def test_two_pages_cannot_both_vote(uri: str, recorder: Recorder) -> None:
    records = make_round()
    history = History(locate_in(uri), recorder)
    for record in records:
        recorder.submit(record)
        history.apply(record)
    barrier = threading.Barrier(2)

    def vote(position: int) -> bool:
        barrier.wait(TIMEOUT)
        return history.vote(vote_on(records, position))

    with ThreadPoolExecutor(2) as pool:
        accepted = list(pool.map(vote, (0, 1)))

    assert sorted(accepted) == [False, True]
    assert recorder.flush(TIMEOUT)
    assert [stored.preference for stored in list_votes(uri)] == [accepted.index(True)]


def test_blind_answers_have_no_metrics_before_the_vote(uri: str, recorder: Recorder) -> None:
    records = make_round()
    history = History(locate_in(uri), recorder)
    for record in records:
        recorder.submit(record)
        history.apply(record)
    assert history.list_turn_metrics(ME) == []
    conversation_id = records[0].conversation_id
    assert history.list_verdicts(ME, conversation_id) == {}
    assert recorder.flush(TIMEOUT)

    reloaded = History(locate_in(uri), recorder)
    assert reloaded.wait_until_loaded(ME, TIMEOUT)
    assert reloaded.list_turn_metrics(ME) == []
    assert reloaded.vote(vote_on(records, "tie", "cut", "Same."))

    assert len(reloaded.list_turn_metrics(ME)) == 2
    expected = {record.turn.id: Verdict("tie", "cut", "Same.", AT) for record in records}
    assert reloaded.list_verdicts(ME, conversation_id) == expected
    assert recorder.flush(TIMEOUT)
    restarted = History(locate_in(uri), recorder)
    assert restarted.wait_until_loaded(ME, TIMEOUT)
    assert restarted.list_verdicts(ME, conversation_id) == expected
    assert len(restarted.list_turn_metrics(ME)) == 2
    assert not restarted.vote(vote_on(records, 0))


def test_a_user_cannot_vote_on_another_users_round(uri: str, recorder: Recorder) -> None:
    records = make_round()
    recorder.submit(*records)
    assert recorder.flush(TIMEOUT)
    history = History(locate_in(uri), recorder)
    assert history.wait_until_loaded(OTHER_USER, TIMEOUT)
    assert not history.vote(replace(vote_on(records, 0), visitor_id=OTHER_USER))


def test_only_recent_rounds_are_read_again_and_old_ones_in_the_background(
    uri: str, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(votes, "_MAX_AGE", -1.0)
    now = time.time()
    old, late_voted, new = (
        make_round(asked_at=now - 9000),
        make_round(OTHER_USER, asked_at=now - 8000),
        make_round(asked_at=now),
    )
    recorder.submit(*old, *late_voted, vote_on(old, 0))
    assert recorder.flush(TIMEOUT)
    reader, parsed_counts = VoteReader(locate_in(uri)), list[int]()
    parse = votes.parse_votes

    def count_traces(infos: Iterable[TraceInfo]) -> Iterator[StoredVote]:
        listed = list(infos)
        parsed_counts.append(len(listed))
        return parse(listed)

    monkeypatch.setattr(votes, "parse_votes", count_traces)
    assert [vote.preference for vote in reader.list_votes()] == [0]

    recorder.submit(*new, vote_on(new, "tie"), vote_on(late_voted, 1))
    assert recorder.flush(TIMEOUT)
    assert {vote.preference for vote in reader.list_votes()} == {0, "tie"}
    assert parsed_counts == [4, 2], "numbers of traces"

    monkeypatch.setattr(votes, "_ALL_MAX_AGE", -1.0)
    reader.list_votes()
    wait_until(lambda: {vote.preference for vote in reader.list_votes()} == {0, "tie", 1})
    wait_until(lambda: reader._background is None)
