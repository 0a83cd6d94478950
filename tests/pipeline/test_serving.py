from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import edgeprune
from edgeprune.bundle import open_bundle
from edgeprune.errors import ConfigError, InputError, ModelError, UnknownNameError
from edgeprune.metrics import Interval
from edgeprune.pipeline.serving import added_bytes, compare, inputs, ladder, open_session, policy_named
from edgeprune.results import read_measured
from edgeprune.serving.policy import fixed
from edgeprune.serving.trace import Trace

PAGE = (Path(__file__).parents[2] / "docs" / "serving.md").read_text(encoding="utf-8")
TEN_LINES = re.findall(r"```python\n(def .*?)```", PAGE, re.DOTALL)[0]


@pytest.fixture
def bundle(bundles):
    return open_bundle(bundles["cpu"])


@pytest.fixture
def serveable(bundle, monkeypatch):
    """The bundle, whose INT8 counts as faster whatever such a small network takes: a rung need not be faster."""
    monkeypatch.setattr("edgeprune.serving.session.FASTER", 1e3)
    return bundle


def with_p50(measured, **ms):
    """The measurements with other times, by variant."""

    def changed(one):
        key = one.variant.replace("-", "_")
        return replace(one, samples_ms=((ms[key],) * 700,)) if key in ms else one

    return replace(
        measured, baseline=changed(measured.baseline), measurements=tuple(map(changed, measured.measurements))
    )


def test_a_ladder_has_the_fastest_variant_of_each_precision_in_order(bundle):
    measured = read_measured(bundle.measured_path)
    chosen, out = ladder(bundle, measured)
    assert [one.files.precision for one in chosen] == ["fp32", "int8"]
    assert out == {}
    assert [one.bits for one in chosen] == [32, 8]
    with pytest.raises(UnknownNameError, match="int8"):
        ladder(bundle, measured, ("int7",))


def test_what_was_not_measured_here_and_what_is_slower_is_left_out_with_the_reason(bundle):
    measured = read_measured(bundle.measured_path)
    other = replace(bundle.core.variants[0], name="ort-other")
    record = replace(measured.measurements[0], variant="ort-other", samples_ms=((9.0,) * 700,))
    more = replace(bundle, core=replace(bundle.core, variants=(*bundle.core.variants, other)))
    _, out = ladder(more, measured)
    assert out == {"ort-other": "has no latency here (not measured)"}
    _, out = ladder(more, replace(measured, measurements=(*measured.measurements, record)))
    assert out == {"ort-other": f"is slower than {bundle.core.variants[0].name}"}


def test_a_precise_variant_stays_beside_one_as_accurate_but_not_beside_one_that_is_better_for_certain(bundle):
    measured = with_p50(read_measured(bundle.measured_path), ort_fp32=2.0, ort_int8=1.0)

    def with_drop(drop):
        ones = [
            replace(one, accuracy=tuple(replace(found, drop=drop) for found in one.accuracy))
            if one.precision == "int8"
            else replace(one, accuracy=tuple(replace(found, drop=Interval(0.0, 0.0, 0.0)) for found in one.accuracy))
            for one in measured.measurements
        ]
        return replace(measured, measurements=tuple(ones))

    by_chance, for_certain = Interval(-0.01, -0.03, 0.01), Interval(-0.02, -0.03, -0.01)
    assert len(ladder(bundle, with_drop(by_chance))[0]) == 2
    chosen, out = ladder(bundle, with_drop(for_certain))
    assert [one.files.precision for one in chosen] == ["int8"]
    assert out == {"ort-fp32": "is less accurate than ort-int8, which is faster"}


def test_the_session_answers_what_the_variant_answers(serveable):
    feeds = inputs(serveable)
    for precision in ("fp32", "int8"):
        with (
            edgeprune.load(serveable, adaptive=True, policy=f"fixed:{precision}") as session,
            edgeprune.load(serveable, f"ort-{precision}") as plain,
        ):
            for one in feeds:
                found, wanted = session.infer(one), plain.infer(one)
                assert session.rungs[session.last.rung].precision == precision
                for name in session.output_names:
                    np.testing.assert_array_equal(found[name], wanted[name])


def test_int8_adds_less_than_half_of_the_bytes_and_memory_is_told(serveable):
    with open_session(serveable, fixed("int8")) as session:
        assert 0 < added_bytes(serveable, session)["int8"] < 0.5
        assert session.resident_bytes.keys() == session.opening_ms.keys() == {"fp32", "int8"}


def test_one_variant_cannot_adapt(serveable, bundles):
    with pytest.raises(InputError, match="two variants of different precision are needed to adapt, ort-int8 can be"):
        edgeprune.load(serveable, adaptive=True, precisions=("int8",))
    with pytest.raises(InputError, match=r"runs on its device|no latency here"):
        edgeprune.load(open_bundle(bundles["jetson"]), adaptive=True)


def test_arguments_that_exclude_each_other_are_refused(bundle):
    with pytest.raises(ConfigError, match="exclude each other"):
        edgeprune.load(bundle, "ort-fp32", adaptive=True)
    with pytest.raises(ConfigError, match="hold has no effect without adaptive=True"):
        edgeprune.load(bundle, hold=3)


def test_the_policy_of_the_docs_has_ten_lines_and_serves(serveable, tmp_path):
    assert len(TEN_LINES.splitlines()) <= 10
    (tmp_path / "mine.py").write_text(TEN_LINES)
    policy = policy_named(f"{tmp_path}/mine.py:careful")
    with open_session(serveable, policy, hold=5) as session:
        feeds = inputs(serveable)[0]
        session.infer(feeds)
        assert session.last.rung == 0
        for _ in range(6):
            session.infer(feeds, waiting=11)
        assert session.last.rung == 1
        assert session.failures == []


def test_what_is_wrong_with_a_users_policy_is_one_line_at_the_start(serveable, tmp_path):
    (tmp_path / "bad.py").write_text(
        "def wrong(readings, ladder):\n    return readings.nothing\n\ndef none(readings, ladder):\n    pass\n"
    )
    with pytest.raises(ModelError, match=r"bad.py: wrong raised AttributeError: .*\(line 2\)"):
        open_session(serveable, policy_named(f"{tmp_path}/bad.py:wrong"))
    with pytest.raises(UnknownNameError, match="unknown precision of this ladder 'None'"):
        open_session(serveable, policy_named(f"{tmp_path}/bad.py:none"))
    with pytest.raises(ModelError, match="it defines none, wrong"):
        policy_named(f"{tmp_path}/bad.py:other")


def test_a_comparison_has_every_fixed_rung_and_an_oracle_for_each_policy(serveable):
    trace = Trace("short", np.arange(40) / 200)
    with open_session(serveable, fixed("int8"), deadline_ms=100.0) as session:
        found = compare(session, trace, {"mine": (fixed("fp32"), 1)}, inputs(serveable))
        summary = json.loads(json.dumps(found.summary()))
    assert list(summary["runs"]) == ["fixed fp32", "fixed int8", "mine"]
    assert summary["runs"]["mine"]["shares"] == {"fp32": 1.0, "int8": 0.0}
    measured = {one.variant: one for one in read_measured(serveable.measured_path).measurements}
    report = next(one for one in measured["ort-int8"].accuracy if one.split == "report")
    assert summary["runs"]["fixed int8"]["expected_accuracy"] == report.value.estimate
    assert summary["oracles"]["mine"]["shares"]["fp32"] == 1.0
    assert summary["verdicts"]["mine"]["share_of_oracle"] == 1.0
