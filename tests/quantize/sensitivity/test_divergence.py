import numpy as np
import pytest

from edgeprune.quantize.sensitivity.candidates import nearest
from edgeprune.quantize.sensitivity.divergence import divergence
from edgeprune.quantize.sensitivity.likelihood import Likelihood

CLASSES = {"output": Likelihood("classes")}
DEPTHWISE = """(float[batch, 2, 4, 4] x) => (float[batch, 2] output) {
  a = Conv<group = 2>(x, w)  p = GlobalAveragePool(a)  output = Flatten(p)
}"""


@pytest.mark.parametrize(("count", "run"), [(64, 64), (67, 69)])
def test_few_drawn_samples_say_on_average_what_all_do(digits, count, run):
    """All are run where there is time for them, the first of them again where parts of one size need more."""
    candidates, feeds = nearest(digits.model), {"input": digits.calibration[:count]}
    every = divergence(digits.model, feeds, candidates, CLASSES, np.random.default_rng(0), passes=100)
    assert every.sample_forwards == (1 + 2 * len(candidates)) * run
    means = [
        divergence(digits.model, feeds, candidates, CLASSES, np.random.default_rng(seed), passes=2).layers
        for seed in range(24)
    ]
    for weight, layer in every.layers.items():
        for precision, loss in layer.losses.items():
            found = [one[weight].losses[precision] for one in means]
            spread = np.std(found) / np.sqrt(len(found))
            assert np.mean(found) == pytest.approx(loss, rel=0.1, abs=4 * spread)


def test_channels_share_the_loss_by_their_errors_and_what_they_are_multiplied_by(parse):
    """Channel 1 errs like channel 0, and reads an input three times as large."""
    w = np.full((2, 1, 1, 2), [1.0, 0.5], np.float32)
    model = parse(DEPTHWISE, w=w)
    x = np.random.default_rng(0).normal(size=(32, 2, 4, 4)).astype(np.float32)
    x[:, 1] = 3 * x[:, 0]
    found = divergence(model, {"x": x}, nearest(model), CLASSES, np.random.default_rng(0)).layers["w"]
    assert found.channels[1] == pytest.approx(9 * found.channels[0])
    assert found.channels.sum() == pytest.approx(found.losses["int4"] - found.losses["int8"])
