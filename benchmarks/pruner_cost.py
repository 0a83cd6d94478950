"""What a pruner takes of the time of the training it stands in: setting up, looking at gradients, removing.

    python benchmarks/pruner_cost.py [--model resnet56] [--steps 100] [--removals 10]

One line of JSON. Noise of the machine weighs on both sides alike; the processor's time is counted, not the wall's.
"""

from __future__ import annotations

import argparse
import json
from time import process_time

import torch

from edgeprune.models.zoo import build
from edgeprune.prune.schedule import Schedule
from edgeprune.prune.structured import StructuredPruner


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="resnet56")
    parser.add_argument("--pruner", default="taylor")
    parser.add_argument("--remove", default="channels")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--removals", type=int, default=10)
    asked = parser.parse_args()
    torch.manual_seed(0)
    model = build(asked.model, {"input_shape": (3, 32, 32), "classes": 10}).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    spent = {"setup": 0.0, "observe": 0.0, "step": 0.0, "training": 0.0}
    every = asked.steps // asked.removals

    began = process_time()
    schedule = Schedule("linear", start=0, steps=every * asked.removals, every=every)
    image = torch.zeros(1, 3, 32, 32)
    pruner = StructuredPruner(model, image, asked.pruner, keep=0.7, remove=asked.remove, schedule=schedule)
    pruner.structure.optimizer = optimizer
    spent["setup"] = process_time() - began

    for _ in range(asked.steps):
        x, y = torch.randn(asked.batch, 3, 32, 32), torch.randint(0, 10, (asked.batch,))
        began = process_time()
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
        spent["training"] += process_time() - began
        for name in ("observe", "step"):
            began = process_time()
            getattr(pruner, name)()
            spent[name] += process_time() - began
    share = (spent["observe"] + spent["step"]) / spent["training"]
    print(json.dumps({**vars(asked), "kept": pruner.report.kept, "seconds": spent, "share": share}))


if __name__ == "__main__":
    main()
