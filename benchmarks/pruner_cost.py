"""What a pruner takes of the time of the training it stands in: setting up, looking at gradients, removing.

    python benchmarks/pruner_cost.py [--pruner taylor|loss|dynamic|rl] [--model resnet56] [--steps 100] [--removals 10]

One line of JSON. Noise of the machine weighs on both sides alike; the processor's time is counted, not the wall's. What
a pruner does in the forward pass, and before and after the optimizer's step, is timed between hooks that stand around
its own.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Callable
from time import process_time

import torch
from torch import nn

from edgeprune.models.zoo import build
from edgeprune.prune.agent.agent_pruner import AgentPruner
from edgeprune.prune.agent.policy import RandomPolicy
from edgeprune.prune.agent.walk import Walk
from edgeprune.prune.dynamic.dynamic_pruner import DynamicPruner
from edgeprune.prune.dynamic.updates import Updates
from edgeprune.prune.loss_contribution import LossPruner
from edgeprune.prune.pruner import Pruner
from edgeprune.prune.schedule import Schedule
from edgeprune.prune.structured import StructuredPruner

IMAGE = torch.zeros(1, 3, 32, 32)


def made(asked: argparse.Namespace, model: nn.Module, optimizer: torch.optim.Optimizer) -> Pruner:
    every = asked.steps // asked.removals
    gradual = Schedule("linear", start=0, steps=every * asked.removals, every=every)
    if asked.pruner == "dynamic":
        updates = Updates("fine", asked.steps + 1, every, until=1.0)
        return DynamicPruner(model, IMAGE, optimizer, updates=updates, sparsity=0.8)
    if asked.pruner == "loss":
        return LossPruner(model, IMAGE, optimizer, schedule=gradual, keep=0.7, connections=0.3)
    if asked.pruner == "rl":
        walk = Walk(model, IMAGE, optimizer, every=every, decisions=asked.removals, keep=0.7)
        return AgentPruner(walk, RandomPolicy(0))
    return StructuredPruner(
        model, IMAGE, asked.pruner, optimizer=optimizer, keep=0.7, remove=asked.remove, schedule=gradual
    )


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
    spent, began = defaultdict[str, float](float), dict[str, float]()

    def start(name: str) -> Callable[..., None]:
        return lambda *_: began.__setitem__(name, process_time())

    def stop(name: str) -> Callable[..., None]:
        return lambda *_: spent.__setitem__(name, spent[name] + process_time() - began[name])

    start("setup")()
    optimizer.register_step_pre_hook(start("before"))
    optimizer.register_step_post_hook(start("after"))
    layers = [one for one in model.modules() if not [*one.children()]]
    for layer in layers:
        layer.register_forward_hook(start("forward"))
    pruner = made(asked, model, optimizer)
    for layer in layers:
        layer.register_forward_hook(stop("forward"))
    optimizer.register_step_pre_hook(stop("before"))
    optimizer.register_step_post_hook(stop("after"))
    stop("setup")()

    for _ in range(asked.steps):
        x, y = torch.randn(asked.batch, 3, 32, 32), torch.randint(0, 10, (asked.batch,))
        start("training")()
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        stop("training")()
        start("step")()
        pruner.step(loss)
        stop("step")()
    hooks = spent["forward"] + spent["before"] + spent["after"]
    spent["training"] -= hooks
    share = (hooks + spent["step"]) / spent["training"]
    print(json.dumps({**vars(asked), "kept": pruner.report.kept, "seconds": spent, "share": share}))


if __name__ == "__main__":
    main()
