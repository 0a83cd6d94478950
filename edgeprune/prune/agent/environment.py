"""A training as an environment of Gymnasium: an action prunes a layer, and behind the last layer epochs go by."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray
from torch import nn
from torch.optim import Optimizer

from edgeprune.errors import ConfigError
from edgeprune.prune.agent.observation import FEATURES
from edgeprune.prune.agent.reward import Judged, Reward
from edgeprune.prune.agent.walk import Action, Walk

MakeWalk = Callable[[nn.Module, Optimizer, int], Walk]
"""From the network, its optimizer and the steps of all epochs."""
Begin = Callable[[int, MakeWalk], tuple[nn.Module, Iterator[object]]]
"""Begins the training of episode n: the network, and an iterator that trains it for an epoch at each turn.

The walk is made with the network and its optimizer before the first step, and takes its own after each of the
optimizer.
"""


class PruningEnvironment(gymnasium.Env[NDArray[np.float32], np.int64]):
    """An episode is a short training from the first weights on.

    After every `every` epochs stands a decision point: each layer in turn is observed and gets an action. A transition
    is paid by how much the state's worth changed: what went at once, and with the last layer of a walk what the epochs
    after it made of accuracy and loss. So the sum over an episode is what the network is worth in its end, less what it
    was at its first decision.
    """

    def __init__(
        self,
        begin: Begin,
        make_walk: MakeWalk,
        evaluate: Callable[[nn.Module], Judged],
        reward: Reward,
        *,
        epochs: int,
        every: int = 1,
        shuffled: bool = False,
        first: int = 0,
    ) -> None:
        """`shuffled` observations say nothing: their features change places at random. `first` is the first episode.

        Raises ConfigError where no decision fits into the epochs.
        """
        if not 0 < every < epochs:
            raise ConfigError(f"a decision every {every} epochs does not fit into episodes of {epochs}: train longer")
        self.observation_space = gymnasium.spaces.Box(0.0, 1.0, (len(FEATURES),), np.float32)
        self.action_space = gymnasium.spaces.Discrete(len(Action))
        self._begin, self._make_walk, self._evaluate, self._reward = begin, make_walk, evaluate, reward
        self._epochs, self._every, self._shuffled = epochs, every, shuffled
        self.episode = first
        """Number of the next episode."""
        self._walk: Walk | None = None
        self._training: Iterator[object] = iter(())
        self._number, self._done, self._judged, self._worth = 0, 0, Judged(0.0, 0.0), 0.0

    @property
    def number(self) -> int:
        """Of the layer that stands to be decided on."""
        return self._number

    @property
    def walk(self) -> Walk:
        """Of this episode."""
        assert self._walk is not None, "reset() comes first"
        return self._walk

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Begin the next training, or the one of number `seed`, and train it up to its first decision point."""
        self.episode = self.episode if seed is None else seed
        super().reset(seed=self.episode)

        def make(model: nn.Module, optimizer: Optimizer, steps: int) -> Walk:
            self._walk = self._make_walk(model, optimizer, steps)
            return self._walk

        self._model, self._training = self._begin(self.episode, make)
        self.episode, self._done = self.episode + 1, 0
        self._advance()
        self._judged = self._evaluate(self._model)
        self._number, self._worth = 0, self._reward.worth(self._judged, self.walk.left)
        return self._observed(), {}

    def step(self, action: np.int64 | int) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Prune one layer; behind the last one train on, to the next decision point or the end.

        Raises ModelError that names the term of the reward which is no number.
        """
        self.walk.apply(self._number, Action(int(action)))
        self._number += 1
        if self._number == len(self.walk.layers):
            self.walk.settle()
            self._advance()
            self._judged = self._evaluate(self._model)
            self._number = 0
        before, self._worth = self._worth, self._reward.worth(self._judged, self.walk.left)
        over = self._number == 0 and self._done == self._epochs
        told = {"accuracy": self._judged.accuracy, "loss": self._judged.loss, "worth": self._worth} if over else {}
        seen = np.zeros(len(FEATURES), np.float32) if over else self._observed()
        return seen, self._worth - before, over, False, told

    def _advance(self) -> None:
        """Train to the next decision point."""
        for _ in range(min(self._every, self._epochs - self._done)):
            next(self._training)
            self._done += 1

    def _observed(self) -> NDArray[np.float32]:
        seen = self.walk.observation(self._number)
        return self.np_random.permutation(seen) if self._shuffled else seen
