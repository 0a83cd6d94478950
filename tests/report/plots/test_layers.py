from __future__ import annotations

import dataclasses
from xml.etree import ElementTree as ET

import pytest

from edgeprune.report.layers import LayerRow, layer_rows
from edgeprune.report.plots.layers import bits_per_layer, sensitivity_per_layer, short_names, time_per_layer


def texts(svg):
    return [text for node in ET.fromstring(svg).iter() if (text := (node.text or "").strip())]


def height(svg):
    return ET.fromstring(svg).get("height")


@pytest.fixture
def rows(source):
    return layer_rows(source.measured, source.core, source.predicted)


def test_bits_have_a_column_for_each_way_to_store(rows, measured):
    shown = texts(bits_per_layer(rows, measured))
    assert {"fp32", "int8", "tensorrt-int8"} <= set(shown)
    assert shown.count("32") == 4 + 1  # the float columns are one; and a layer that stays float
    assert shown.count("8") == 4 + 2
    assert shown.count("4.5") == 1


def test_plots_of_layers_have_equal_rows(rows, measured):
    plots = (bits_per_layer(rows, measured), sensitivity_per_layer(rows), time_per_layer(rows, measured))
    assert len({height(svg) for svg in plots}) == 1
    assert all({"conv1", "conv2", "fc1", "fc2"} <= set(texts(svg)) for svg in plots)


def test_time_is_that_of_the_default_and_the_baseline(rows, measured):
    assert {"baseline", "ort-int8"} <= set(texts(time_per_layer(rows, measured)))
    alone = dataclasses.replace(measured, default="baseline")
    assert "ort-int8" not in texts(time_per_layer(rows, alone))


@pytest.mark.parametrize("loss", [0.0, -1e-9, 5.0])
def test_a_loss_that_does_not_rise_can_be_drawn_on_a_logarithmic_axis(loss):
    rows = [LayerRow("conv", "Conv", 10, {}, {"int8": loss, "int4": 1e-3})]
    assert sensitivity_per_layer(rows) is not None


@pytest.mark.parametrize(
    ("names", "short"),
    [
        (["a.b.conv", "a.c.conv"], ["b.conv", "c.conv"]),
        (["a.b.conv", "a.c.conv", "head"], ["b.conv", "c.conv", "head"]),
        (["conv"], ["conv"]),
        (["a.b"], ["a.b"]),
        (["x" * 40], ["x" * 26]),
        (["encoder.layers.0.attention.query_projection"], ["…attention.query_projection"]),
        (["", "a"], ["", "a"]),
    ],
)
def test_names_are_shortened_to_what_tells_them_apart(names, short):
    assert short_names(names) == short
