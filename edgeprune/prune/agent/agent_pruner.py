"""A pruner that lets a policy decide: at points of a training it walks the layers, and does to each what that says."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from edgeprune.prune.agent.policy import LearnedPolicy, Policy
from edgeprune.prune.agent.walk import Walk
from edgeprune.prune.pruner import Event, LayerConnections, LayerWidth, PruneReport
from edgeprune.prune.surgery import SurgeryLog
from edgeprune.prune.training_flops import TrainingFlops


class AgentPruner:
    """Applies a policy; learning one is `learn`'s."""

    def __init__(self, walk: Walk, policy: Policy, *, samples: float = 1.0) -> None:
        """`samples` are those of a step on average, for the count of FLOPs.

        Raises ModelError where the policy was learned for another architecture.
        """
        if isinstance(policy, LearnedPolicy):
            policy.check(walk.architecture)
        self.walk, self.policy = walk, policy
        self._samples, self._flops = samples, TrainingFlops()
        self._events: list[Event] = []
        self._before = (walk.bill.total, walk.macs.total)

    @property
    def model(self) -> nn.Module:
        """That is pruned."""
        return self.walk.model

    @property
    def log(self) -> SurgeryLog:
        """All that was removed so far."""
        return self.walk.structure.log

    @property
    def report(self) -> PruneReport:
        """What is left of channels and connections."""
        walk, now = self.walk, self.walk.structure.widths_now()
        active = walk.masks.counts()
        return PruneReport(
            "rl",
            walk.keep,
            walk.align,
            walk.cost,
            self._before[0],
            walk.bill.total,
            round(self._before[1]),
            round(walk.macs.total),
            tuple(
                LayerWidth(name, width, now[name], "" if now[name] < width else self._why(name))
                for name, width in walk.structure.widths.items()
            ),
            events=tuple(self._events),
            unfollowed=walk.structure.unfollowed,
            connections=tuple(
                LayerConnections(name, size, active.get(name, self.model.get_parameter(name).numel()))
                for name, size in walk.sizes.items()
            ),
            training_flops=self._flops.spent,
            training_flops_dense=self._flops.dense,
        )

    def step(self, loss: Tensor | None = None) -> bool:
        """After the optimizer's: walk the layers, if it is time to; whether anything went."""
        self.walk.step(loss)
        self._flops.add(self.walk.macs.total, self._before[1], self._samples)
        if not self.walk.is_due or not self.walk.structure.is_finite:
            return False
        for number in range(len(self.walk.layers)):
            seen = self.walk.observation(number)
            self.walk.apply(number, self.policy.action(seen, self.walk.steps, number))
        removed, dropped = self.walk.settle()
        if removed or dropped:
            kept = self.walk.bill.total / self._before[0]
            self._events.append(Event(self.walk.steps, kept, dict(removed), dropped=dropped))
        return bool(removed or dropped)

    def state_dict(self) -> dict[str, Any]:
        """The walk's, and what was counted; the policy is not in it."""
        return {
            "walk": self.walk.state_dict(),
            "events": [(one.step, one.kept, dict(one.layers), one.dropped) for one in self._events],
            "flops": (self._flops.spent, self._flops.dense),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there. Cuts the dense network, so load this first, then the network's and the optimizer's."""
        self.walk.load_state_dict(state["walk"])
        self._events = [Event(step, kept, layers, dropped=gone) for step, kept, layers, gone in state["events"]]
        self._flops = TrainingFlops(*state["flops"])

    def _why(self, name: str) -> str:
        return self.walk.structure.group_of(name)[1] or "the agent kept it"
