from __future__ import annotations

import dataclasses
import io
import shutil

import pytest
from rich.console import Console

from edgeprune.bundle import open_bundle
from edgeprune.errors import CorruptError
from edgeprune.report.contents import contents, measured_of, page
from edgeprune.results import Layer, write


def shown(bundle, measured) -> str:
    stream = io.StringIO()
    Console(file=stream, width=100).print(page(bundle, measured))
    return stream.getvalue()


@pytest.fixture
def bundle(bundles):
    return open_bundle(bundles["cpu"])


def test_every_layer_has_what_was_meant_beside_what_ran(bundle):
    found = contents(bundle, measured_of(bundle))
    int8 = next(one for one in found["variants"] if one["name"] == "ort-int8")
    assert [layer["intended"] for layer in int8["layers"]] == ["int8"] * 4
    assert [layer["effective"] for layer in int8["layers"]] == ["int8"] * 4


def test_a_layer_that_ran_in_something_else_is_shown_with_the_reason(bundle):
    measured = measured_of(bundle)
    fallen = [
        dataclasses.replace(
            record, layers=(Layer("conv1", "Conv", "int8", "fp32", "no such kernel"), *record.layers[1:])
        )
        if record.variant == "ort-int8"
        else record
        for record in measured.measurements
    ]
    text = shown(bundle, dataclasses.replace(measured, measurements=tuple(fallen)))
    assert "int8->fp32" in text
    assert "ort-int8: conv1: no such kernel" in text


def test_what_was_not_measured_is_said(bundle):
    found = contents(bundle, None)
    assert (found["default"], found["default_reason"]) == (None, "not measured")
    assert "what is meant, not what ran (not measured): baseline, ort-fp32, ort-int8" in shown(bundle, None)


def test_sizes_are_those_of_the_files(bundle):
    for one in contents(bundle, None)["variants"]:
        assert one["size_bytes"] == sum((bundle.root / file).stat().st_size for file in one["files"].values())


def test_what_pruning_left_whole_is_shown_with_the_reason(bundle):
    assert "it is the output" in shown(bundle, None)


@pytest.mark.parametrize("name", ["cpu", "narrow", "jetson"])
def test_it_fits_into_100_columns(bundles, name):
    bundle = open_bundle(bundles[name])
    text = shown(bundle, measured_of(bundle))
    assert max(map(len, text.splitlines())) <= 100
    assert "…" not in text


def test_many_variants_stand_in_several_tables(bundle):
    int8 = bundle.variant("ort-int8")
    more = tuple(dataclasses.replace(int8, name=f"ort-int8-{number}") for number in range(9))
    wide = dataclasses.replace(bundle, core=dataclasses.replace(bundle.core, variants=more))
    text = shown(wide, None)
    assert max(map(len, text.splitlines())) <= 100
    assert text.count("conv1") == 3  # once as pruned, twice with precisions


def test_a_bundle_without_measurements_has_none(bundle, tmp_path):
    copy = shutil.copytree(bundle.root, tmp_path / "copy")
    (copy / "measured.json").unlink()
    assert measured_of(open_bundle(copy)) is None


def test_measurements_of_another_bundle_are_refused(bundle, bundles, tmp_path):
    copy = shutil.copytree(bundle.root, tmp_path / "copy")
    write(measured_of(open_bundle(bundles["narrow"])), copy / "measured.json")
    with pytest.raises(CorruptError, match="of another bundle"):
        measured_of(open_bundle(copy))
