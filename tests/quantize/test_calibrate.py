import json
import signal
import subprocess
import sys

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from torch import nn

from edgeprune.errors import DataError, UnknownNameError
from edgeprune.export.to_onnx import export
from edgeprune.models.zoo import specs_of
from edgeprune.quantize.calibrate import calibrate
from edgeprune.quantize.observers import OBSERVERS
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


@pytest.mark.parametrize("observer", OBSERVERS)
def test_every_observer_calibrates(digits, observer):
    ranges = calibrate(digits.file, in_batches(digits.calibration, 32), observer=observer)
    for name, span in ranges.items():
        widest = digits.ranges[name]
        assert widest.low <= span.low < span.high <= widest.high


@pytest.mark.parametrize("observer", OBSERVERS)
def test_two_inputs_and_texts_of_different_lengths_are_calibrated(tmp_path, observer):
    file = tmp_path / "two.onnx"
    text = (
        '<ir_version: 8, opset_import: ["" : 20]> two (float[n, t, 3] a, float[n, t, 3] b) => (float[n, t, 2] y)'
        "<float[3, 2] w = {1, 0, 0, 1, 1, 1}> { sum = Add(a, b) y = MatMul(sum, w) }"
    )
    onnx.save(onnx.parser.parse_model(text), file)
    random = np.random.default_rng(0)
    batches = [
        {name: random.normal(size=(size, length, 3)).astype(np.float32) for name in "ab"}
        for size, length in [(8, 5), (8, 2), (4, 9)]
    ]
    found = calibrate(file, batches, observer=observer)
    taken = {name: np.concatenate([one[name].reshape(-1) for one in batches]) for name in "ab"}
    taken["sum"] = taken["a"] + taken["b"]
    assert set(found) == set(taken)
    for name, x in taken.items():
        assert x.min() <= found[name].low < 0 < found[name].high <= x.max()
        assert observer != "minmax" or found[name] == Range(float(x.min()), float(x.max()))


def interrupted(batches, after: int):
    """The first batches, and then a failure."""
    for number, feeds in enumerate(batches):
        if number == after:
            raise InterruptedError
        yield feeds


@pytest.mark.parametrize("observer", OBSERVERS)
def test_a_broken_calibration_goes_on_with_the_next_batch_to_the_same_end(digits, tmp_path, observer):
    checkpoint = tmp_path / "checkpoint.npz"
    batches = list(in_batches(digits.calibration, 4))
    with pytest.raises(InterruptedError):
        calibrate(digits.file, interrupted(batches, 21), observer=observer, checkpoint=checkpoint)
    seen = [None] * 16 + batches[16:]  # those before are not looked at again
    resumed = calibrate(digits.file, seen, observer=observer, checkpoint=checkpoint)
    assert resumed == calibrate(digits.file, batches, observer=observer)


CHILD = """
import os, resource, sys
from pathlib import Path
import numpy as np
from edgeprune.quantize.calibrate import calibrate
file, checkpoint, observer, samples, killed_at = sys.argv[1:]
def batches():
    random = np.random.default_rng(0)
    for number in range(int(samples) // 16):
        if number == int(killed_at):
            os.kill(os.getpid(), 9)
        yield {"input": random.normal(size=(16, 1, 8, 8)).astype(np.float32)}
found = calibrate(Path(file), batches(), observer=observer, checkpoint=Path(checkpoint))
print([(name, one.low, one.high) for name, one in found.items()])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def child(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", CHILD, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_a_killed_process_leaves_what_the_next_one_goes_on_from(digits, tmp_path):
    checkpoint = tmp_path / "checkpoint.npz"
    killed = child(digits.file, checkpoint, "entropy", 640, 30)
    assert killed.returncode == -signal.SIGKILL
    with np.load(checkpoint) as stored:
        assert json.loads(stored["about"].tobytes())["batches"] == 24
    resumed = child(digits.file, checkpoint, "entropy", 640, -1)
    unbroken = child(digits.file, tmp_path / "other.npz", "entropy", 640, -1)
    assert resumed.stdout.splitlines()[0] == unbroken.stdout.splitlines()[0] != ""


def test_memory_does_not_grow_with_the_samples(digits, tmp_path):
    runs = [child(digits.file, tmp_path / f"{samples}.npz", "mse", samples, -1) for samples in (2048, 8 * 2048)]
    few, many = (int(run.stdout.splitlines()[-1]) for run in runs)  # KiB
    input_kib = 7 * 2048 * 8 * 8 * 4 / 1024
    assert many - few < 0.5 * input_kib  # the network's values, all kept, would be 40 times the input
