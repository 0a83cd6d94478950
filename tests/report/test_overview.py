from __future__ import annotations

import dataclasses
import io

import pytest
from rich.console import Console

from edgeprune.report.overview import overview


def shown(sources, width=100):
    console = Console(width=width, file=io.StringIO(), highlight=False, markup=False)
    console.print(overview(sources))
    return console.file.getvalue()


def test_one_bundle_is_shown_in_full(source):
    assert "openvino-int8 ran fc1, fc2 in fp32, not int8" in shown([source]).replace("\n", " ")


@pytest.mark.parametrize("name", ["cnn", "a-rather-long-name-of-a-folder-that-somebody-chose"])
def test_many_have_a_row_each_in_100_columns_without_losing_a_digit(source, name):
    named = dataclasses.replace(source, path=source.path.parent.with_name(name) / "measured.json")
    large = [
        dataclasses.replace(
            one,
            size_bytes=one.size_bytes * 4000,
            samples_ms=tuple(tuple(5000 * ms for ms in run) for run in one.samples_ms),
        )
        for one in (source.measured.baseline, *source.measured.measurements)
    ]
    measured = dataclasses.replace(source.measured, baseline=large[0], measurements=tuple(large[1:]))
    text = shown([named, dataclasses.replace(named, measured=measured)])
    assert max(map(len, text.splitlines())) <= 100
    for said in ("2.68x", "2.63 to 2.76", "44.7 kB", "178.9 MB", "97.6 %", "-0.26 to 1.13", "fell back"):
        assert said in text
    assert "…" not in text


def test_unlike_measurements_have_tables_of_their_own(source):
    environment = dataclasses.replace(source.measured.baseline.environment, machine="another")
    baseline = dataclasses.replace(source.measured.baseline, environment=environment)
    other = dataclasses.replace(source, measured=dataclasses.replace(source.measured, baseline=baseline))
    text = shown([source, other])
    assert text.count("speed-up") == 2
    assert "another, 1 thread" in text


def test_a_bundle_without_a_default_has_a_row_too(source):
    none = dataclasses.replace(source, measured=dataclasses.replace(source.measured, default=None))
    assert "no default" in shown([source, none])
