from __future__ import annotations

import dataclasses

import pytest

from edgeprune.metrics import Interval
from edgeprune.report.summary import (
    aligned,
    apart,
    conditions,
    deciding,
    fallbacks,
    headline,
    points,
    subject,
    summarize,
    training,
    unit_of_time,
)


def column(summary, title):
    return next(column for column in summary.columns if column.title == title)


def row(summary, name):
    index = summary.names.index(name)
    return {column.title: column.cells[index] for column in summary.columns}


def test_the_baseline_stands_in_the_first_row_and_the_default_is_marked(measured):
    summary = summarize(measured)
    assert (summary.names[0], summary.roles[0]) == ("baseline", "unpruned")
    assert summary.roles[summary.names.index("ort-int8")] == "default"
    assert summary.roles.count("") == 4


def test_a_baseline_that_is_a_variant_can_be_the_default(measured):
    own = dataclasses.replace(measured.baseline, variant="ort-fp32")
    summary = summarize(dataclasses.replace(measured, baseline=own, measurements=(), default="ort-fp32"))
    assert summary.roles == ("baseline, default",)


def test_values_are_shown_in_the_unit_of_their_column(measured):
    summary = summarize(measured)
    chosen = row(summary, "ort-int8")
    assert chosen["size"].text == "44.7"
    assert column(summary, "size").unit == "kB"
    assert chosen["accuracy"].text == "97.6"
    assert chosen["drop"].text == "0.44"
    assert chosen["drop"].bounds == ("-0.26", "1.13")
    assert chosen["speed-up"].text == "2.68x"
    record = next(one for one in measured.measurements if one.variant == "ort-int8")
    assert float(chosen["p50"].text) == pytest.approx(1000 * record.percentile_ms(50), abs=0.05)
    assert row(summary, "openvino-fp32")["energy"].text == "2.10"


def test_what_is_unpacked_and_what_a_gpu_holds_are_told_in_notes(measured):
    base = dataclasses.replace(
        measured.baseline, size_bytes=500_000, loaded_bytes=900_000, device_memory_bytes=3_000_000
    )
    summary = summarize(dataclasses.replace(measured, baseline=base, measurements=()))
    told = {name: summary.notes[row(summary, base.variant)[name].note - 1] for name in ("size", "memory")}
    assert told == {
        "size": "900.0 kB once its 4-bit weights are unpacked as it is opened",
        "memory": "and 3.0 MB on the GPU",
    }
    same = dataclasses.replace(base, loaded_bytes=250_000, device_memory_bytes=None)  # floats of 16 bits
    summary = summarize(dataclasses.replace(measured, baseline=same, measurements=()))
    assert [row(summary, base.variant)[name].note for name in ("size", "memory")] == [0, 0]


def test_large_files_and_slow_models_get_larger_units(measured):
    base = dataclasses.replace(measured.baseline, size_bytes=102_400_000, samples_ms=((37.4,) * 700,))
    slow = dataclasses.replace(measured, baseline=base, measurements=())
    assert column(summarize(slow), "size").unit == "MB"
    assert column(summarize(slow), "size").cells[0].text == "102"
    assert unit_of_time(slow) == ("ms", 1.0)
    assert column(summarize(slow), "p50").cells[0].text == "37.4"


def test_every_missing_value_is_a_dash_with_a_reason(measured):
    summary = summarize(measured)
    for one in summary.columns:
        for cell in one.cells:
            assert cell.text != "-" or summary.notes[cell.note - 1]
    absent = row(summary, "tensorrt-int8")
    assert {summary.notes[absent[title].note - 1] for title in ("p50", "p99", "speed-up", "memory", "energy")} == {
        "not measured: no device"
    }
    assert summary.notes[row(summary, "ort-int8")["energy"].note - 1].startswith("energy unavailable: no powercap")


def test_simulated_accuracy_says_so(measured):
    summary = summarize(measured)
    note = row(summary, "tensorrt-int8")["accuracy"].note
    assert summary.notes[note - 1] == "accuracy simulated (ONNX Runtime, graph optimization off)"
    assert row(summary, "ort-int8")["accuracy"].note == 0


def test_a_percentile_without_enough_runs_says_how_many_it_needs(measured):
    short = dataclasses.replace(measured.baseline, samples_ms=((0.1,) * 100,))
    summary = summarize(dataclasses.replace(measured, baseline=short))
    cell = row(summary, "baseline")["p99"]
    assert cell.text == "n<662"
    assert summary.notes[cell.note - 1] == "p99 needs 662 timed runs"


def test_warnings_are_remarks_on_their_variant(measured):
    assert summarize(measured).remarks == ("ort-int8: load average 1.9 on 2 cores",)


def test_untrained_weights_have_no_accuracy_but_agreement(measured, core):
    def agrees(record):
        first = dataclasses.replace(record.accuracy[0], metric="agreement", drop=None)
        return dataclasses.replace(record, accuracy=(first,))

    untrained = dataclasses.replace(
        measured,
        baseline=dataclasses.replace(measured.baseline, accuracy=()),
        measurements=tuple(map(agrees, measured.measurements)),
    )
    summary = summarize(untrained, dataclasses.replace(core, untrained=True))
    titles = [column.title for column in summary.columns]
    assert titles[0] == "agreement"
    assert not {"accuracy", "drop"} & set(titles)
    assert summary.remarks[0].startswith("accuracy: none, the weights are untrained")


def test_the_table_shows_the_report_split_and_the_others_stand_apart(measured):
    assert deciding(measured.baseline).split == "report"
    others = apart(measured)
    assert len(others) == 6
    assert {accuracy.split for _, accuracy in others} == {"select"}


def test_layers_that_fell_back_for_one_reason_are_told_together(measured):
    assert [str(one) for one in fallbacks(measured)] == [
        "openvino-int8 ran fc1, fc2 in fp32, not int8: no 8-bit kernel for this shape"
    ]


def test_the_headline_says_what_the_default_is_worth(measured):
    assert headline(measured) == (
        "ort-int8 is the default (the fastest measured within the budgets): 2.68x as fast, 9 % of the size,"
        " 0.44 points lost, beside the FP32 baseline."
    )
    nothing = dataclasses.replace(measured, default=None, default_reason="no variant is within the budgets")
    assert headline(nothing) == "No default variant: no variant is within the budgets."


def test_a_heading_names_model_data_and_target(measured, core):
    assert subject(measured, core) == "cnn on digits for cpu"
    assert subject(measured) == "cnn for cpu"
    assert conditions(measured).startswith("top-1 accuracy: report split, 450 samples; A processor")
    assert conditions(measured).endswith("1 thread; 2026-09-14 08:31 UTC")


def test_numbers_of_a_column_line_up():
    assert aligned([0.0523, 12.25, None]) == ["0.0523", "12.2500", "-"]
    assert aligned([1234.4, 2.0]) == ["1,234.40", "2.00"]
    assert aligned([100.0, 250.0]) == ["100", "250"]
    assert aligned([0.0]) == ["0.00"]
    assert aligned([None]) == ["-"]


@pytest.mark.parametrize(("drop", "text"), [(0.0044, "0.44"), (-0.00001, "0.00"), (0.0, "0.00"), (-0.005, "-0.50")])
def test_points_never_show_a_negative_zero(drop, text):
    assert points(drop) == text


def test_a_speed_up_below_one_is_shown_as_it_is(measured):
    slower = dataclasses.replace(measured.measurements[1], speedup=Interval(0.43, 0.42, 0.44))
    summary = summarize(dataclasses.replace(measured, measurements=(slower,)))
    assert row(summary, "ort-int8")["speed-up"].text == "0.43x"


@pytest.mark.parametrize(
    ("train", "given", "before", "more"),
    [
        ({"epochs": 30}, {}, "trained 30 epochs", 30),
        ({"epochs": 3, "recover_epochs": 0}, {}, "trained 3 epochs", 0),
        ({"epochs": 4}, {"weights": "w.safetensors"}, "weights given", 4),
    ],
)
def test_it_is_told_how_long_what_was_trained(core, train, given, before, more):
    pruned = dataclasses.replace(core, recipe={"train": train, **given})
    assert training(pruned) == f"the baseline: {before}; the variants: then pruned, trained {more} more"
    assert training(dataclasses.replace(pruned, pruning={"pruner": "none"})) == before


def test_nothing_is_told_of_training_where_there_was_none_or_nobody_knows(core):
    trained = dataclasses.replace(core, recipe={"train": {"epochs": 30}})
    assert training(trained)
    assert training(dataclasses.replace(trained, untrained=True)) == training(core) == training(None) == ""
    assert training(dataclasses.replace(trained, model="net.onnx", pruning={"pruner": "none"})) == "weights given"
