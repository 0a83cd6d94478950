from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from edgeprune.errors import CorruptError
from edgeprune.metrics import Interval, wilson
from edgeprune.results import (
    SAMPLES_FOR_PERCENTILE,
    Accuracy,
    Energy,
    Environment,
    Layer,
    Measured,
    Measurement,
    read_measured,
    read_measurement,
    write,
)

ENVIRONMENT = Environment("A processor", "x86_64", ("avx2",), 2, 8 << 30, "Linux", "3.11.7", {"onnxruntime": "1.31.1"})


def record(runs: tuple[tuple[float, ...], ...] = (), **values: object) -> Measurement:
    accuracy = Accuracy("top1", "report", 100, wilson(97, 100), Interval(0.01, -0.01, 0.03), "measured")
    fields = {
        "bundle": "ab" * 32, "model": "cnn", "target": "cpu", "variant": "ort-int8", "backend": "ort",
        "precision": "int8", "size_bytes": 1234, "accuracy": (accuracy,), "environment": ENVIRONMENT,
        "samples_ms": runs, "energy": Energy(0.002, "rapl", "", 3.5, 100.0),
        "layers": (Layer("conv1", "Conv", "int8", "int8"), Layer("fc", "Gemm", "int8", "fp32", "no kernel")),
    }  # fmt: skip
    return Measurement(**{**fields, **values})  # type: ignore[arg-type]


def test_what_is_written_is_read_back(tmp_path):
    written = record(((1.0, 1.5), (1.25,)), speedup=Interval(2.0, 1.9, 2.1), peak_memory_bytes=10, warnings=("busy",))
    failed = record(unmeasured="the worker was killed by signal 9", failed=True)
    for one in (written, failed):
        write(one, tmp_path / "one.json")
        assert read_measurement(tmp_path / "one.json") == one
    measured = Measured("ort-int8", "the fastest", record(), (written,))
    write(measured, tmp_path / "all.json")
    assert read_measured(tmp_path / "all.json") == measured


def test_nothing_is_left_beside_what_is_written(tmp_path):
    write(record(), tmp_path / "one.json")
    write(record(), tmp_path / "one.json")
    assert [path.name for path in tmp_path.iterdir()] == ["one.json"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"schema": 1}', b"\xff\xfe"])
def test_what_is_no_measurement_is_refused_with_its_name(tmp_path, content):
    path = tmp_path / "bad.json"
    path.write_bytes(content)
    with pytest.raises(CorruptError, match=r"bad\.json: .*measure again"):
        read_measurement(path)


def test_another_schema_is_refused(tmp_path):
    path = tmp_path / "new.json"
    write(record(), path)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema": 99}))
    with pytest.raises(CorruptError, match="schema 99"):
        read_measurement(path)


@pytest.mark.parametrize("q", sorted(SAMPLES_FOR_PERCENTILE))
def test_a_percentile_is_claimed_only_with_the_runs_it_needs(q):
    needed = SAMPLES_FOR_PERCENTILE[q]
    samples = tuple(float(value) for value in range(1, needed + 1))
    assert record((samples,)).percentile_ms(q) == pytest.approx(np.percentile(samples, q))
    assert record((samples[1:],)).percentile_ms(q) is None


@pytest.mark.parametrize("q", [50, 99])
def test_the_interval_of_a_percentile_is_over_restarts(q):
    """Six restarts that differ by 1 ms and within which nothing differs: pooled they would seem precise."""
    runs = tuple(tuple([1.0 * restart] * 200) for restart in range(1, 7))
    assert record(runs).percentile_interval_ms(q) == Interval(3.5, 1, 6)
    assert record(runs[:5]).percentile_interval_ms(q) is None


def test_an_interval_needs_the_runs_that_its_percentile_needs():
    assert record(((1.0,) * 110,) * 6).percentile_interval_ms(99) is None
    assert record(((1.0,) * 111,) * 6).percentile_interval_ms(99) is not None


def test_percentiles_are_over_all_restarts():
    assert record(((1.0, 2.0), (3.0,))).percentile_ms(50) == 2.0
    assert record(((1.0, 2.0), (3.0,))).samples == 3


def test_a_layer_fell_back_where_what_ran_is_not_what_was_meant():
    assert [layer.name for layer in record().fallbacks] == ["fc"]
    assert Layer("a", "Conv", "int8", "unknown").fell_back


def test_a_busy_or_hot_machine_is_still_the_same_machine():
    busy = dataclasses.replace(ENVIRONMENT, load_average=7.5, temperature_c=80.0)
    assert busy.fingerprint() == ENVIRONMENT.fingerprint()


@pytest.mark.parametrize("change", [{"threads": 2}, {"versions": {"onnxruntime": "1.30.0"}}, {"governor": "powersave"}])
def test_other_threads_versions_or_governor_are_another_environment(change):
    assert dataclasses.replace(ENVIRONMENT, **change).fingerprint() != ENVIRONMENT.fingerprint()
