"""The default number of threads of the ONNX wrapper."""

import pytest

from models.phi3_onnx_engine import usable_cpus


@pytest.mark.parametrize(("limit", "expected"), [("1", 1), ("100000", None), ("0", None), ("2,1", None), ("", None)])
def test_a_scheduler_may_allow_fewer_threads(limit: str, expected: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    all_ = usable_cpus()
    assert all_ >= 1
    monkeypatch.setenv("OMP_NUM_THREADS", limit)
    assert usable_cpus() == (expected or all_)
