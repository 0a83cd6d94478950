"""Policies: from what is observed of a layer to what is done to it. One that was learned is a file that is no code."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as serialize
from torch import Tensor, nn

from edgeprune.errors import CorruptError, InputError, ModelError, OutputError
from edgeprune.prune.agent.observation import FEATURES
from edgeprune.prune.agent.walk import Action

SCHEMA = 2
WEIGHTS, DESCRIPTION = "policy.safetensors", "policy.json"
HIDDEN = (64, 64)
"""Widths of a policy's layers."""
Architecture = Mapping[str, tuple[int, ...]]
"""Shape of the weights by layer, outputs first."""


class Policy(Protocol):
    """Chooses."""

    def action(self, observation: NDArray[np.float32], step: int, number: int) -> Action:
        """For layer `number` at the decision point after `step` steps."""
        ...


def network() -> nn.Sequential:
    """From observations [N, FEATURES] to the worth of each action [N, actions]."""
    widths = (len(FEATURES), *HIDDEN)
    layers = [part for a, b in pairwise(widths) for part in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*layers, nn.Linear(widths[-1], len(Action)))


@dataclass(frozen=True)
class LearnedPolicy:
    """The action of the highest worth, as a Q-network was taught it."""

    weights: Mapping[str, Tensor]
    """Of `network`."""
    architecture: Architecture
    """Of the network that it was learned on."""
    learned: Mapping[str, Any] = field(default_factory=dict)
    """How: for people."""

    def __post_init__(self) -> None:
        made = network()
        made.load_state_dict(dict(self.weights))
        object.__setattr__(self, "_network", made.eval())

    def action(self, observation: NDArray[np.float32], step: int, number: int) -> Action:
        """Of the highest worth."""
        made: nn.Sequential = getattr(self, "_network")  # noqa: B009
        with torch.no_grad():
            return Action(int(made(torch.from_numpy(observation)[None]).argmax()))

    def check(self, architecture: Architecture, where: str = "policy") -> None:
        """Raises ModelError where it was learned for another network."""
        if dict(self.architecture) == dict(architecture):
            return
        names = sorted(self.architecture.keys() ^ architecture.keys())
        differs = [f"layer {name} is in one of them only" for name in names] or [
            f"weights of {name} were {_by(shape)}, and are {_by(architecture[name])}"
            for name, shape in self.architecture.items()
            if architecture[name] != shape
        ]
        raise ModelError(f"{where}: was learned for another architecture ({differs[0]}): learn one for this network")


def _by(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


@dataclass(frozen=True)
class RandomPolicy:
    """Any action, whatever is observed: what a policy must be better than."""

    seed: int

    def action(self, observation: NDArray[np.float32], step: int, number: int) -> Action:
        """Decided by the seed, the step and the layer alone."""
        drawn = np.random.default_rng((self.seed, step, number))
        return Action(int(drawn.integers(len(Action))))


def save(folder: Path, policy: LearnedPolicy) -> None:
    """Write `policy.safetensors` and `policy.json`. Raises OutputError."""
    described = {
        "schema": SCHEMA,
        "features": FEATURES,
        "actions": [action.name.lower() for action in Action],
        "hidden": HIDDEN,
        "architecture": dict(policy.architecture),
        "learned": dict(policy.learned),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        weights = {name: one.detach().cpu().contiguous() for name, one in policy.weights.items()}
        (folder / WEIGHTS).write_bytes(serialize(weights))
        (folder / DESCRIPTION).write_text(json.dumps(described, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{folder}: the policy cannot be written ({error.strerror}): choose another place") from error


def load(folder: Path) -> LearnedPolicy:
    """Read what `save` wrote. Raises InputError where nothing is there, CorruptError where it is damaged."""
    for name in (WEIGHTS, DESCRIPTION):
        if not (folder / name).is_file():
            raise InputError(f"{folder / name}: missing: give a folder with a learned policy")
    try:
        described = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        kind = (described["schema"], tuple(described["features"]), tuple(described["hidden"]))
        if kind != (SCHEMA, FEATURES, HIDDEN):
            raise CorruptError(f"{folder}: the policy is not of this version, or observes other things: learn it again")
        architecture = {name: tuple(shape) for name, shape in dict(described["architecture"]).items()}
        return LearnedPolicy(load_file(folder / WEIGHTS), architecture, described["learned"])
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise CorruptError(f"{folder}: the policy is damaged ({type(error).__name__}): learn it again") from error
