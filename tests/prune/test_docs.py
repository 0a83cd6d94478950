"""The example of docs/pruning.md, in a loop that knows nothing of EdgePrune."""

from __future__ import annotations

import re
from pathlib import Path

import torch

from edgeprune.data.datasets import describe, read
from edgeprune.models.zoo import build
from edgeprune.train.batches import to_input

PAGE = Path(__file__).parents[2] / "docs" / "pruning.md"


def test_the_example_prunes_and_still_learns(capsys):
    (example,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    info = describe("digits")
    samples = read(info.splits["train"], info)
    torch.manual_seed(0)
    model = build("cnn", {"input_shape": (1, 8, 8), "classes": 10})
    images = to_input(torch.from_numpy(samples.columns["image"].copy()), info.preprocess)
    labels = torch.from_numpy(samples.labels.astype("int64"))
    names = {"model": model, "images": images, "labels": labels}
    exec(compile(example, str(PAGE), "exec"), names)
    pruner = names["pruner"]
    assert pruner.report.kept <= 0.4
    steps = [event.step for event in pruner.report.events]
    assert steps[0] == 30
    assert set(steps) <= set(range(30, 121, 10))
    assert (model(images).argmax(1) == labels).float().mean() > 0.9
    assert "conv2" in capsys.readouterr().out
