"""The estimate of the time left."""

from itertools import pairwise

from phi3_ui.provision.jobs import JobState, StageResult
from phi3_ui.provision.recipes import StageName
from phi3_ui.provision.time_left import TimeLeft

_DEMO: tuple[StageName, ...] = ("fetch", "convert", "build", "log_onnx", "log_pipeline")
_TOOK = (2.1, 2.9, 14.1, 7.0, 17.7)  # seconds of each stage of the demo, as measured
_PAUSE = 0.5  # seconds between two updates


def test_it_counts_down_without_jumps_and_is_about_right() -> None:
    time_left, shown, now = TimeLeft(), list[tuple[float, float]](), 0.0
    for step, seconds in enumerate(_TOOK):
        results = tuple(StageResult(took) for took in _TOOK[:step])
        started, has_measure = now, step == 2
        while now < started + seconds:
            done, total = (round(100 * (now - started) / seconds), 100) if has_measure else (0, 0)
            state = JobState("running", _DEMO, step, done, total, results=results, started_at=started)
            if (left := time_left.update(state.estimate_seconds_left(now), now)) is not None:
                shown.append((left, sum(_TOOK) - now))
            now += _PAUSE

    assert all(-1.5 < later - earlier < 0.5 for (earlier, _), (later, _) in pairwise(shown))
    assert all(abs(left - real) < 0.4 * real + 3 for left, real in shown)


def test_nothing_is_said_before_there_is_anything_to_go_by() -> None:
    state = JobState("running", _DEMO, 1, results=(StageResult(0.1),))
    assert state.estimate_seconds_left(1.0) is None
    assert TimeLeft().update(None, 1.0) is None
