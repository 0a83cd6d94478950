"""The examples of docs/pruning.md, in loops that know nothing of EdgePrune."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from edgeprune.data.datasets import describe, read
from edgeprune.models.zoo import build
from edgeprune.train.batches import to_input

PAGE = Path(__file__).parents[2] / "docs" / "pruning.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture
def digits():
    """What the examples take as given."""
    info = describe("digits")
    samples = read(info.splits["train"], info)
    torch.manual_seed(0)
    model = build("cnn", {"input_shape": (1, 8, 8), "classes": 10})
    images = to_input(torch.from_numpy(samples.columns["image"].copy()), info.preprocess)
    return {"model": model, "images": images, "labels": torch.from_numpy(samples.labels.astype("int64"))}


def run(example, names):
    exec(compile(example, str(PAGE), "exec"), names)
    assert (names["model"](names["images"]).argmax(1) == names["labels"]).float().mean() > 0.9
    return names["pruner"].report


def test_the_first_example_prunes_and_still_learns(digits, capsys):
    report = run(EXAMPLES[0], digits)
    assert report.kept <= 0.4
    steps = [event.step for event in report.events]
    assert steps[0] == 30
    assert set(steps) <= set(range(30, 121, 10))
    assert "conv2" in capsys.readouterr().out


def test_the_second_example_trains_sparse_and_still_learns(digits, capsys):
    report = run(EXAMPLES[1], digits)
    assert report.kept == pytest.approx(0.2, abs=1e-3)
    assert [event.step for event in report.events] == list(range(20, 225, 20))
    assert "conv2.weight" in capsys.readouterr().out
