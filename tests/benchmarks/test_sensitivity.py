from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner


@pytest.fixture(scope="module")
def script(program):
    return program("sensitivity")


def test_a_prediction_is_judged_by_the_order_it_puts_layers_in(script):
    true = {f"layer{row}": {"int8": 0.001 * row, "int4": float(row)} for row in range(12)}
    squared = {weight: {one: loss**2 for one, loss in each.items()} for weight, each in true.items()}
    found = script.correlations(true, squared)
    assert found.keys() == {"int8", "int4", "all"}
    assert all(one.estimate == pytest.approx(1.0) for one in found.values())
    turned = {weight: {one: -loss for one, loss in each.items()} for weight, each in true.items()}
    assert script.correlations(true, turned)["int4"].estimate == pytest.approx(-1.0)


def test_a_bundle_is_judged_and_all_numbers_are_kept(script, bundles, tmp_path):
    arguments = [str(bundles["cpu"]), "--samples", "64", "--judged", "50", "--out", str(tmp_path)]
    result = CliRunner().invoke(script.main, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    record = json.loads((tmp_path / "cpu.json").read_text())
    assert record["samples"] == {"calibrate": 64, "report": 50}
    layers = {"conv1.weight", "conv2.weight", "dense1.weight", "dense2.weight"}
    assert record["true"].keys() == layers
    assert all(one["losses"].keys() == layers for one in record["predicted"].values())
    assert {"curvature", "divergence", "squared-error"} <= record["correlations"].keys()
    assert np.isfinite([one["int4"] for one in record["true"].values()]).all()
    assert "curvature" in result.output
