import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import nn

from edgeprune.errors import DataError, UnknownNameError
from edgeprune.export.to_onnx import export
from edgeprune.models.zoo import specs_of
from edgeprune.quantize.calibrate import calibrate
from edgeprune.quantize.spec import Range


def in_batches(x, size):
    return ({"input": x[start : start + size]} for start in range(0, len(x), size))


def linear(tmp_path, weight: float, bias: float = 0.0):
    """y = relu(weight * x + bias), then a second layer, as a file."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 2))
    with torch.no_grad():
        model[1].weight.fill_(weight)
        model[1].bias.fill_(bias)
    export(model, specs_of({"input_shape": (1, 1, 1)}), tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


def column(*values: float) -> np.ndarray:
    return np.array(values, np.float32).reshape(-1, 1, 1, 1)


def test_ranges_are_those_of_the_values_computed_by_hand(tmp_path):
    ranges = calibrate(linear(tmp_path, 2, 1), in_batches(column(*range(-8, 12)), 7))
    assert ranges == {"input": Range(-8, 11), "relu": Range(0, 23)}


def test_every_value_is_one_of_the_graph_and_the_output_is_left_in_float(digits):
    values = ir.convenience.create_value_mapping(digits.model.graph)
    assert digits.ranges.keys() <= values.keys()
    assert "output" not in digits.ranges
    assert "conv1" not in digits.ranges  # a ReLU follows: its output is quantized instead


@pytest.mark.parametrize("size", [1, 50, 128])
def test_how_samples_are_batched_changes_nothing(digits, size):
    ranges = calibrate(digits.file, in_batches(digits.calibration, size))
    assert ranges.keys() == digits.ranges.keys()
    for name, span in ranges.items():
        assert (span.low, span.high) == pytest.approx((digits.ranges[name].low, digits.ranges[name].high), rel=1e-5)


def test_batches_are_taken_one_at_a_time(digits):
    alive = 0

    def batches():
        nonlocal alive
        for feeds in in_batches(digits.calibration, 32):
            alive += 1
            assert alive == 1
            yield feeds
            alive -= 1

    calibrate(digits.file, batches())


def test_few_samples_are_refused(digits):
    with pytest.raises(DataError, match="15 calibration samples: at least 16"):
        calibrate(digits.file, in_batches(digits.calibration[:15], 4))
    with pytest.raises(DataError, match="0 calibration samples"):
        calibrate(digits.file, iter(()))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_value_that_is_not_finite_is_named(tmp_path, bad):
    with pytest.raises(DataError, match="'input' becomes NaN or infinite"):
        calibrate(linear(tmp_path, 1), in_batches(column(*range(20), bad), 7))
    with pytest.raises(DataError, match="'relu' becomes NaN or infinite"):
        calibrate(linear(tmp_path, 3e38), in_batches(column(*range(20)), 7))


def test_a_value_that_is_always_zero_is_named(tmp_path):
    with pytest.raises(DataError, match="'relu' is zero on every calibration sample"):
        calibrate(linear(tmp_path, -1), in_batches(column(*range(20)), 7))


def test_samples_of_another_shape_are_refused(digits):
    with pytest.raises(DataError):
        calibrate(digits.file, in_batches(digits.calibration[:, :, :7], 32))


def test_an_unknown_observer_is_answered_with_the_known(digits):
    with pytest.raises(UnknownNameError, match="did you mean 'minmax'"):
        calibrate(digits.file, in_batches(digits.calibration, 32), observer="minmaks")
