from __future__ import annotations

import pytest
import torch
from torch import nn

from edgeprune.prune.agent.observation import SEEN, Watch


def test_the_first_samples_of_a_batch_tell_what_a_layer_does_and_only_while_it_is_watched():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5))
    watch, batches = Watch(model, ["0"]), [torch.randn(4 * SEEN, 6) for _ in range(3)]
    seen = []
    for x, watch.watching in zip(batches, (True, False, True), strict=True):
        model.zero_grad()
        output = model(x)
        output.square().sum().backward()
        if watch.watching:
            watch.gradients()
            seen.append(output.detach()[:SEEN])
    found = watch.layers["0"]
    assert found.batches == 2
    assert found.mean("activation") == pytest.approx(float(torch.cat(seen).abs().mean()))
    assert found.mean("silent") == pytest.approx(float((torch.cat(seen) <= 0).float().mean()))
