"""The default number of threads of the ONNX wrapper."""

import pytest

from models.phi3_onnx_engine import usable_cpus


@pytest.mark.parametrize(("limit", "expected"), [("1", 1), ("100000", None), ("0", None), ("2,1", None), ("", None)])
def test_omp_num_threads_can_lower_the_default(
    limit: str, expected: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    cpus = usable_cpus()
    assert cpus >= 1
    monkeypatch.setenv("OMP_NUM_THREADS", limit)
    assert usable_cpus() == (expected or cpus)
