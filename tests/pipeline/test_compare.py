from dataclasses import replace

import numpy as np
import onnx
import pytest

from edgeprune.bundle import LayerPlan, Task, Variant, open_bundle, seal
from edgeprune.errors import BudgetError, InputError
from edgeprune.metrics import Interval
from edgeprune.pipeline.compare import SETTINGS, Comparison, compare
from edgeprune.recipe import Recipe
from edgeprune.shipped import find
from edgeprune.tensor import TensorSpec

QUICK = replace(SETTINGS, seconds=0.12, rounds=4, warm_min_s=0, warm_max_s=0.3)


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


def test_a_program_beside_one_that_does_four_times_the_work_is_faster_for_sure(bundle_of):
    small, large = bundle_of("small", 512), bundle_of("large", 512, layers=5)
    found = compare(large, large.core.baseline, small, small.core.baseline, settings=QUICK)
    assert found.verdict in ("faster", "too noisy")
    assert found.speedup.low > 1.5
    assert found.a.endswith("large:ort-fp32")
    assert [one.variant for one in found.measurements] == ["a", "a-again", "b"]
    assert all(len(one.samples_ms) == QUICK.restarts for one in found.measurements)


def test_a_bundle_takes_part_as_it_is_and_stays_so(bundle_of):
    one = bundle_of("one", 64)
    compare(one, one.core.baseline, one, one.core.baseline, settings=replace(QUICK, restarts=6, seconds=0.02))
    assert open_bundle(one.root).sha256 == one.sha256


def comparison(speedup, control=(0.99, 1.01)):
    low, high = speedup
    between = Interval((low + high) / 2, low, high)
    return Comparison("a", "b", between, Interval(1.0, *control), (1.0, 1.0), ())


@pytest.mark.parametrize(
    ("speedup", "control", "verdict"),
    [
        ((1.01, 1.2), (0.99, 1.01), "faster"),
        ((0.8, 0.99), (0.99, 1.01), "slower"),
        ((0.98, 1.2), (0.99, 1.01), "no difference"),
        ((0.8, 0.99), (1.01, 1.03), "too noisy"),
    ],
)
def test_the_verdict_needs_the_whole_interval_and_a_control_that_finds_equals_equal(speedup, control, verdict):
    assert comparison(speedup, control).verdict == verdict


def test_only_what_is_slower_for_sure_and_by_more_than_allowed_fails():
    comparison((0.9, 1.01)).check(1)
    comparison((0.95, 0.99)).check(5)
    comparison((0.5, 0.6), (1.01, 1.02)).check(1)
    with pytest.raises(BudgetError, match=r"b takes 11.1 % longer than a: 5 % are allowed"):
        comparison((0.85, 0.95)).check(5)


def test_unlike_is_not_compared_with_like(bundle_of):
    one, other = bundle_of("one", 64), bundle_of("other", 64, shape=("batch", 64))
    with pytest.raises(InputError, match="only like can be compared with like"):
        compare(one, one.core.baseline, other, other.core.baseline, settings=QUICK)
    board = bundle_of("board", 64, target="rpi5")
    with pytest.raises(InputError, match="is for rpi5, which is not this machine"):
        compare(one, one.core.baseline, board, board.core.baseline, settings=QUICK)
