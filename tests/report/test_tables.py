from __future__ import annotations

import dataclasses
import io
import re

import pytest
from rich.console import Console

from edgeprune.report.tables import page, summary
from edgeprune.roofline import Limit
from edgeprune.scenario import Scenario


def shown(renderable, width=100):
    stream = io.StringIO()
    Console(file=stream, width=width, highlight=False).print(renderable)
    return stream.getvalue()


def test_the_table_fits_a_terminal_of_100_columns_without_losing_a_digit(measured, core):
    text = shown(summary(measured, core))
    assert max(map(len, text.splitlines())) <= 100
    assert "…" not in text
    for value in ("97.6", "[95.7, 98.6]", "44.7", "2.68x", "[2.63, 2.76]", "487.3"):
        assert value in text


def test_the_table_of_a_large_slow_model_fits_too(measured, core):
    def large(record):
        times = tuple(tuple(20_000 * value for value in run) for run in record.samples_ms)
        return dataclasses.replace(
            record, samples_ms=times, size_bytes=record.size_bytes * 1000, peak_memory_bytes=10**9
        )

    grown = dataclasses.replace(
        measured, baseline=large(measured.baseline), measurements=tuple(map(large, measured.measurements))
    )
    text = shown(summary(grown, core))
    assert max(map(len, text.splitlines())) <= 100
    assert "…" not in text


def test_digits_of_a_column_are_aligned_whatever_notes_they_carry(measured, core):
    rows = [re.match(r"[a-z][\w-]* +(\d\d\.\d)", line) for line in shown(summary(measured, core)).splitlines()]
    ends = [row.end(1) for row in rows if row]
    assert len(ends) == 6
    assert len(set(ends)) == 1


def test_notes_remarks_fallbacks_and_the_verdict_stand_below(measured, core):
    text = shown(page(measured, core), width=160)
    assert "¹ accuracy simulated" in text
    assert "² not measured: no device" in text
    assert "ort-int8: load average 1.9" in text
    assert "fallback: openvino-int8 ran fc1, fc2 in fp32, not int8" in text
    assert text.rstrip().endswith("beside the FP32 baseline.")


def test_the_split_that_decided_is_left_to_the_page_and_further_ones_are_shown(measured, core):
    assert "select" not in shown(page(measured, core))
    further = dataclasses.replace(measured.baseline.accuracy[1], split="lossless", samples=1000)
    extended = dataclasses.replace(measured.baseline, accuracy=(*measured.baseline.accuracy, further))
    assert "lossless  baseline" in shown(page(dataclasses.replace(measured, baseline=extended), core))


@pytest.mark.parametrize("name", ["[red]conv[/red]", "a\nb"])
def test_names_from_a_model_are_not_markup(measured, core, name):
    layer = dataclasses.replace(measured.measurements[3].layers[2], name=name)
    fallen = dataclasses.replace(measured.measurements[3], layers=(layer,))
    assert name in shown(page(dataclasses.replace(measured, measurements=(fallen,)), core), width=160)


def test_the_epochs_before_and_after_pruning_are_told(measured, core):
    trained = dataclasses.replace(core, recipe=core.recipe | {"train": {"epochs": 30}})
    assert "trained 30 epochs; the variants: then pruned, trained 30 more" in shown(page(measured, trained))


def test_how_much_of_the_machines_limit_a_variant_reaches_is_told_in_a_line(measured, core):
    assert "limit" not in shown(page(measured, core))
    half = dataclasses.replace(
        measured.baseline, limit=Limit(measured.baseline.percentile_ms(50) / 2, 1000, 100, "memory")
    )
    assert "of this machine's limit: baseline 50 % (memory)" in shown(
        page(dataclasses.replace(measured, baseline=half), core)
    )


def test_a_scenario_has_its_own_columns_and_every_row_says_it(measured, core):
    server = Scenario("server", "LoadGen 6.0.17", queries_per_s=100, deadline_ms=0.12)
    loaded = dataclasses.replace(measured.baseline, scenario=server, accuracy=(), samples_per_s=(99.0,))
    text = shown(page(dataclasses.replace(measured, baseline=loaded, measurements=(), default=None), core))
    assert "server, 100 queries/s, Poisson, deadline 0.12 ms, by LoadGen 6.0.17" in text
    assert "unpruned, server" in text
    assert "late" in text
    assert "accuracy" not in text.split("variant")[0]
    offline = dataclasses.replace(loaded, scenario=Scenario("offline", "LoadGen 6.0.17"), samples_ms=())
    text = shown(page(dataclasses.replace(measured, baseline=offline, measurements=(), default=None), core))
    assert "throughput" in text
    assert "99.0" in text
    assert "p50" not in text


def test_estimated_energy_has_a_column_of_its_own_that_says_where_it_comes_from(measured, core):
    estimated = dataclasses.replace(measured.baseline, estimated_joules=12.5e-6)
    text = shown(page(dataclasses.replace(measured, baseline=estimated), core))
    assert max(map(len, text.splitlines())) <= 100
    assert "est. energy (µJ): baseline 12.5" in text
    assert "est. energy: operations x published energy of each (Horowitz 2014, 45 nm)" in text
