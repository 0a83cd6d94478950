from dataclasses import replace

import numpy as np
import onnx
import pytest

from edgeprune.bundle import LayerPlan, Task, Variant, open_bundle, seal
from edgeprune.errors import BudgetError, InputError
from edgeprune.metrics import Interval
from edgeprune.noise import ASSUMED, read_noise
from edgeprune.pipeline.compare import SETTINGS, Comparison, compare, measure_noise
from edgeprune.recipe import Recipe
from edgeprune.shipped import find
from edgeprune.tensor import TensorSpec

QUICK = replace(SETTINGS, restarts=8, seconds=0.12, rounds=4, warm_min_s=0, warm_max_s=0.3)


@pytest.fixture
def bundle_of(tmp_path):
    """A sealed bundle on the digits for this machine: dense layers of this width, as many as said."""

    def made(name, width, layers=1, target="cpu", shape=("batch", 1, 8, 8)):
        root = tmp_path / name
        (root / "model").mkdir(parents=True)
        body = "".join(f" h{i + 1} = MatMul(h{i}, square)" for i in range(layers))
        text = f"""<ir_version: 8, opset_import: ["" : 20]> main (float[batch,1,8,8] x) => (float[batch,10] y)
            {{ flat = Flatten(x) h0 = MatMul(flat, wide) {body} y = MatMul(h{layers}, last) }}"""
        model = onnx.parser.parse_model(text)
        for tensor, shape_ in {"wide": (64, width), "square": (width, width), "last": (width, 10)}.items():
            array = np.full(shape_, 1e-3, np.float32)
            model.graph.initializer.append(onnx.numpy_helper.from_array(array, tensor))
        onnx.save(model, root / "model" / "model.onnx")
        (root / "target.yaml").write_text(find("targets", target).read_text())
        variant = Variant(
            "ort-fp32", "ort", "fp32", {"model": "model/model.onnx"}, {}, (LayerPlan("y", "MatMul", "last", "fp32"),)
        )
        core = {
            "model": name,
            "target": target,
            "inputs": (TensorSpec("x", "float32", shape),),
            "outputs": (TensorSpec("y", "float32", ("batch", 10)),),
            "task": Task("classification", ("top1",)),
            "untrained": False,
            "baseline": variant,
            "variants": (),
            "seed": 0,
            "command": "none",
            "recipe": Recipe().model_dump(mode="json", exclude_none=True),
            **{name: {} for name in ("splits", "budgets", "pruning", "assumptions", "versions")},
        }
        return seal(root, core)

    return made


@pytest.mark.system
def test_a_program_beside_one_that_does_four_times_the_work_is_faster_for_sure(bundle_of, tmp_path):
    small, large = bundle_of("small", 512), bundle_of("large", 512, layers=5)
    found = compare(large, large.core.baseline, small, small.core.baseline, noise_root=tmp_path, settings=QUICK)
    assert found.verdict == "faster"
    assert found.speedup.low > 1.5
    assert found.speedup.confidence == 0.99
    assert (found.floor, found.floor_known) == (ASSUMED, False)
    known = read_noise(tmp_path, found.measurements[0].environment.fingerprint())
    assert known.controls == (found.control.estimate,)
    assert found.a.endswith("large:ort-fp32")
    assert [one.variant for one in found.measurements] == ["a", "a-again", "b"]
    assert all(len(one.samples_ms) == QUICK.restarts for one in found.measurements)


@pytest.mark.system
def test_a_bundle_takes_part_as_it_is_and_stays_so(bundle_of, tmp_path):
    one, brief = bundle_of("one", 64), replace(QUICK, seconds=0.02)
    compare(one, one.core.baseline, one, one.core.baseline, noise_root=tmp_path, settings=brief)
    with pytest.raises(InputError, match="too few restarts for an interval at 99 %: eight at least"):
        compare(
            one, one.core.baseline, one, one.core.baseline, noise_root=tmp_path, settings=replace(brief, restarts=7)
        )
    assert open_bundle(one.root).sha256 == one.sha256


def comparison(speedup, control=1.0, floor=0.0):
    low, high = speedup
    between, same = Interval((low + high) / 2, low, high), Interval(control, control - 0.01, control + 0.01)
    return Comparison("a", "b", between, same, floor, True, (1.0, 1.0), ())


@pytest.mark.parametrize(
    ("speedup", "control", "floor", "verdict"),
    [
        ((1.01, 1.2), 1.01, 0.02, "faster"),
        ((0.8, 0.99), 1.01, 0.0, "slower"),
        ((0.98, 1.2), 1.01, 0.0, "no difference"),
        ((0.96, 0.98), 1.01, 0.04, "no difference"),  # the machine's floor is higher
        ((0.96, 0.98), 0.96, 0.01, "no difference"),  # so is this run's control
        ((1.02, 1.04), 1.01, 0.04, "no difference"),
    ],
)
def test_the_verdict_needs_the_whole_interval_and_more_than_the_noise(speedup, control, floor, verdict):
    assert comparison(speedup, control, floor).verdict == verdict


def test_only_what_is_slower_for_sure_and_by_more_than_allowed_fails():
    comparison((0.9, 1.01)).check(1)
    comparison((0.95, 0.99)).check(5)
    comparison((0.95, 0.97), floor=0.05).check(1)
    with pytest.raises(BudgetError, match=r"b takes 11.1 % longer than a: 5 % are allowed"):
        comparison((0.85, 0.95)).check(5)


def test_unlike_is_not_compared_with_like(bundle_of, tmp_path):
    one, other = bundle_of("one", 64), bundle_of("other", 64, shape=("batch", 64))
    with pytest.raises(InputError, match="only like can be compared with like"):
        compare(one, one.core.baseline, other, other.core.baseline, noise_root=tmp_path, settings=QUICK)
    board = bundle_of("board", 64, target="rpi5")
    with pytest.raises(InputError, match="is for rpi5, which is not this machine"):
        compare(one, one.core.baseline, board, board.core.baseline, noise_root=tmp_path, settings=QUICK)


@pytest.mark.system
def test_a_machine_is_measured_by_comparing_a_program_with_itself(bundle_of, tmp_path):
    one = bundle_of("one", 64)
    brief = replace(QUICK, seconds=0.02, rounds=2)
    noise, path = measure_noise(one, one.core.baseline, noise_root=tmp_path, repeats=2, settings=brief)
    assert len(noise.controls) == 4
    assert 0 < noise.floor < 1
    assert read_noise(tmp_path, path.stem) == noise
    found = compare(one, one.core.baseline, one, one.core.baseline, noise_root=tmp_path, settings=brief)
    assert found.floor == noise.floor
