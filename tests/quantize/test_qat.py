"""Training with the rounding in place: each runtime's own, to the last bit."""

import copy

import numpy as np
import pytest
import torch

from edgeprune.export.to_onnx import export
from edgeprune.graph.load import read_onnx
from edgeprune.models.zoo import specs_of
from edgeprune.quantize.emission.flavour import FLAVOURS, fitted, in_blocks
from edgeprune.quantize.emission.stored import stored_weights
from edgeprune.quantize.plan import uniform_plan
from edgeprune.quantize.qat import simulate

DIALECTS = FLAVOURS | {f"{name}, 7 bits": FLAVOURS[name].reduced() for name in ("ort", "openvino")}


@pytest.mark.parametrize("precision", ["int8", "int4"])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_trained_weights_are_what_the_dialect_stores(digits, tmp_path, dialect, precision):
    flavour, model = DIALECTS[dialect], copy.deepcopy(digits.module)
    plan = fitted(uniform_plan(digits.model, precision), digits.model, flavour)
    blocks = in_blocks(plan, digits.model, flavour)
    assert bool(blocks) == (dialect == "tensorrt" and precision == "int4")

    finish = simulate(model, digits.model, plan, digits.ranges, flavour)
    images = torch.tensor(digits.images[:64])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = model(images)
    for _ in range(3):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(images), torch.tensor(digits.labels[:64])).backward()
        optimizer.step()
    assert not torch.equal(model(images), before)  # gradients pass through the rounding
    finish()

    export(model, specs_of({"input_shape": (1, 8, 8)}), tmp_path / "tuned.onnx")
    tuned = read_onnx(tmp_path / "tuned.onnx")
    stored = stored_weights(tuned, plan, flavour)
    assert stored.keys() >= blocks.keys()
    for name, real in stored.items():
        floats = tuned.graph.initializers[name].const_value.numpy()
        np.testing.assert_allclose(real, floats, atol=1e-6 * np.abs(floats).max(), err_msg=name)


def test_what_a_layer_with_weights_in_blocks_is_given_stays_as_it_is(digits):
    flavour, seen = FLAVOURS["tensorrt"], list[torch.Tensor]()
    plan = fitted(uniform_plan(digits.model, "int4"), digits.model, flavour)
    weight = next(iter(in_blocks(plan, digits.model, flavour)))
    model = copy.deepcopy(digits.module)
    simulate(model, digits.model, plan, digits.ranges, flavour)
    layer = model.get_submodule(weight.removesuffix(".weight"))
    layer.register_forward_hook(lambda _, given, __: seen.append(given[0]))
    model(torch.tensor(digits.images[:8]))
    assert len(torch.unique(seen[0])) > 256
