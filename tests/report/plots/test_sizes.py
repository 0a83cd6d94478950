from __future__ import annotations

import dataclasses
from xml.etree import ElementTree as ET

from edgeprune.bundle import LayerPlan, Variant
from edgeprune.report.plots.sizes import REST, breakdown, size_breakdown


def variant(*layers):
    return Variant("ort-int8", "ort", "int8", {}, {}, layers)


def test_a_file_is_its_weights_by_width_and_the_rest():
    layers = (
        LayerPlan("a", "Conv", "a.weight", "int8", weight_bits=8.0, weights=1000),
        LayerPlan("b", "Conv", "b.weight", "int8", weight_bits=4.0, weights=1000),
        LayerPlan("c", "Gemm", "c.weight", "fp32", weights=10),
    )
    found = breakdown(variant(*layers), 3000)
    assert found == {"32-bit weights": 40, "8-bit weights": 1000, "4-bit weights": 500, REST: 3000 - 1540}


def test_a_layer_whose_channels_have_two_widths_is_divided_among_them():
    layer = LayerPlan("a", "Conv", "a.weight", "int8", weight_bits=5.0, weights=800)
    assert breakdown(variant(layer), 600) == {"8-bit weights": 200, "4-bit weights": 300, REST: 100}


def test_what_layers_share_is_stored_once():
    twice = [LayerPlan(name, "Gather", "table", "int8", weight_bits=8.0, weights=100) for name in "ab"]
    assert breakdown(variant(*twice), 150) == {"8-bit weights": 100, REST: 50}


def test_bundles_that_did_not_count_weights_have_no_breakdown(measured, core):
    assert breakdown(variant(LayerPlan("a", "Conv", "a.weight", "int8")), 100) is None
    assert breakdown(variant(), 100) is None
    assert size_breakdown(measured, None) is None


def test_every_variant_has_a_bar_that_ends_in_its_size(measured, core):
    texts = {node.text for node in ET.fromstring(size_breakdown(measured, core)).iter()}
    assert {"ort-int8", "44.7", "487.3", "8-bit weights", REST} <= texts
    large = dataclasses.replace(measured.baseline, size_bytes=48_000_000)
    texts = {
        node.text for node in ET.fromstring(size_breakdown(dataclasses.replace(measured, baseline=large), core)).iter()
    }
    assert {"48.0", "size on disk, MB"} <= texts
