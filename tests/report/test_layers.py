from __future__ import annotations

import dataclasses

from edgeprune.report.layers import layer_rows, untold, wider


def test_every_layer_says_what_was_meant_stored_and_run(source):
    rows = layer_rows(source.measured, source.core, source.predicted)
    assert [(row.name, row.op, row.weights) for row in rows[:2]] == [("conv1", "Conv", 5000), ("conv2", "Conv", 5000)]
    use = rows[2].uses["openvino-int8"]
    assert (use.meant, use.ran, use.bits, use.fell_back) == ("int8", "fp32", 8.0, True)
    assert rows[2].losses == {"int8": 2e-6, "int4": 2e-4}


def test_what_did_not_run_is_what_was_meant(source):
    use = layer_rows(source.measured, source.core, None)[2].uses["tensorrt-int8"]
    assert (use.meant, use.ran, use.bits, use.fell_back) == ("int8", None, 4.5, False)


def test_a_lone_measurement_knows_no_bits(measured):
    rows = layer_rows(measured, None, None)
    assert {use.bits for row in rows for use in row.uses.values()} == {None}
    assert [row.name for row in rows] == ["conv1", "conv2", "fc1", "fc2"]


def test_what_is_wider_than_its_variant_is_told_with_when_and_why(source):
    rows = layer_rows(source.measured, source.core, None)
    fell, planned = wider(rows, source.measured, source.core)
    assert (fell.variant, fell.layers, fell.named, fell.became) == ("openvino-int8", ("fc1", "fc2"), "int8", "fp32")
    assert (fell.decided, fell.reason) == (False, "no 8-bit kernel for this shape")
    assert (planned.variant, planned.layers, planned.became, planned.decided) == (
        "tensorrt-int8",
        ("fc2",),
        "fp32",
        True,
    )


def test_nothing_is_wider_where_all_ran_as_the_variant_is_called(source):
    whole = dataclasses.replace(source.measured, measurements=source.measured.measurements[:2])
    assert wider(layer_rows(whole, None, None), whole, None) == ()


def test_a_runtime_that_told_nothing_is_named_with_the_reason(measured):
    assert untold(measured) == {"tensorrt-int8": "no device"}
