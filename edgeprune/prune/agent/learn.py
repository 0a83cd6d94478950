"""Learn a policy with the DQN of stable-baselines3, over episodes that a kill does not undo.

Mnih et al., "Human-level control through deep reinforcement learning", Nature 2015. The library keeps its own loop; at
the end of an episode, when nothing is under way, all that it goes on from is written as tensors: networks, optimizer,
replay buffer, counters and the states of the random generators. So an interrupted run ends with the policy of an
unbroken one.
"""

from __future__ import annotations

import io
import pickle
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3 import DQN
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.utils import set_random_seed
from torch import Tensor

from edgeprune.errors import ConfigError
from edgeprune.prune.agent.environment import PruningEnvironment
from edgeprune.prune.agent.policy import HIDDEN, Policy
from edgeprune.whole_file import write_whole

BUFFER = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")
"""Arrays of a replay buffer."""


@dataclass(frozen=True)
class DqnSettings:
    """The study's: learning rate, discount, and the fraction of random actions, which falls over all episodes."""

    learning_rate: float = 1e-3
    gamma: float = 0.99
    first_epsilon: float = 1.0
    last_epsilon: float = 0.01
    batch: int = 64
    target_every: int = 100
    """Transitions between two updates of the target network."""


@dataclass(frozen=True)
class Curve:
    """How episodes went, in order."""

    returns: tuple[float, ...]
    accuracies: tuple[float, ...]
    """In the end."""


@dataclass(frozen=True)
class Learned:
    """A Q-network, as `policy.network` takes it, and how it came about."""

    weights: dict[str, Tensor]
    curve: Curve


def learn(
    environment: PruningEnvironment,
    *,
    episodes: int,
    transitions: int,
    seed: int,
    settings: DqnSettings = DqnSettings(),
    checkpoint: Path | None = None,
    note: Callable[[int, float], None] = lambda episode, worth: None,
) -> Learned:
    """Over so many episodes of so many transitions each; those that `checkpoint` holds are not played again.

    `note` is told after each episode its number and its return. Raises what the environment raises, ConfigError where
    nothing is to be learned, OutputError where the checkpoint cannot be written.
    """
    if episodes < 1:
        raise ConfigError("no episodes: an agent learns from at least one")
    set_random_seed(seed)
    agent = DQN(
        "MlpPolicy",
        environment,
        learning_rate=settings.learning_rate,
        gamma=settings.gamma,
        exploration_initial_eps=settings.first_epsilon,
        exploration_final_eps=settings.last_epsilon,
        exploration_fraction=1.0,
        target_update_interval=settings.target_every,
        train_freq=(1, "episode"),
        gradient_steps=-1,  # as many as there were transitions
        learning_starts=0,
        batch_size=settings.batch,
        buffer_size=min(episodes * transitions, 100_000),
        policy_kwargs={"net_arch": list(HIDDEN)},
        device="cpu",
    )
    agent.action_space.seed(seed)
    keeper = _Keeper(checkpoint, {"episodes": episodes, "transitions": transitions, "seed": seed}, note)
    done = keeper.resume(agent, environment)
    if done < episodes:
        agent.learn((episodes - done) * transitions, keeper, log_interval=episodes + 1, reset_num_timesteps=done == 0)
    weights = {name: one.detach().clone() for name, one in agent.policy.q_net.q_net.state_dict().items()}
    return Learned(weights, Curve(tuple(keeper.returns), tuple(keeper.accuracies)))


def play(environment: PruningEnvironment, policies: Iterable[Policy]) -> Curve:
    """Let each act in an episode, and learn nothing."""
    returns, accuracies = [], []
    for policy in policies:
        seen, _ = environment.reset()
        over, total, told = False, 0.0, dict[str, Any]()
        while not over:
            action = policy.action(seen, environment.walk.steps, environment.number)
            seen, reward, over, _, told = environment.step(int(action))
            total += reward
        returns.append(total)
        accuracies.append(told["accuracy"])
    return Curve(tuple(returns), tuple(accuracies))


class _Keeper(BaseCallback):
    """Writes all that learning goes on from, between two episodes; `episodes` is always of whole ones."""

    def __init__(self, checkpoint: Path | None, job: dict[str, int], note: Callable[[int, float], None]) -> None:
        super().__init__()
        self._checkpoint, self._job, self._note = checkpoint, job, note
        self._random: dict[str, Any] | None = None
        self._return = 0.0
        self.returns: list[float] = []
        self.accuracies: list[float] = []

    def resume(self, agent: DQN, environment: PruningEnvironment) -> int:
        """Load the checkpoint; the number of episodes that it holds, 0 where there is none that can be used."""
        if self._checkpoint is None or not self._checkpoint.exists():
            return 0
        try:
            state = torch.load(self._checkpoint, map_location="cpu", weights_only=True)
            if state["job"] != self._job:
                return 0
            agent.policy.load_state_dict(state["policy"])
            agent.policy.optimizer.load_state_dict(state["optimizer"])
        except (OSError, RuntimeError, ValueError, KeyError, TypeError, EOFError, pickle.UnpicklingError):
            return 0
        buffer = agent.replay_buffer
        assert buffer is not None
        for name, part in state["buffer"].items():
            getattr(buffer, name)[: len(part)] = part.numpy()
        buffer.pos, buffer.full = state["at"]
        agent.num_timesteps, agent._n_calls, agent._n_updates, agent._episode_num = state["counters"]
        agent.exploration_rate = state["epsilon"]
        agent._last_obs = None  # the next episode is begun anew
        self._random = state["random"]
        self.returns, self.accuracies = list(state["returns"]), list(state["accuracies"])
        environment.episode = len(self.returns)
        return len(self.returns)

    def _on_training_start(self) -> None:
        """The first episode has begun; what was drawn for that is drawn again for none."""
        if self._random is not None:
            _restore(self._random, self.model)

    def _on_rollout_start(self) -> None:
        """Between two episodes: the last one is learned from, the next has begun and nothing was done in it."""
        if self._checkpoint is not None and self.returns:
            _write(self._checkpoint, self._state())

    def _on_step(self) -> bool:
        self._return += float(self.locals["rewards"][0])
        if self.locals["dones"][0]:
            self.returns.append(self._return)
            self.accuracies.append(float(self.locals["infos"][0]["accuracy"]))
            self._note(len(self.returns), self._return)
            self._return = 0.0
        return True

    def _on_training_end(self) -> None:
        if self._checkpoint is not None:
            _write(self._checkpoint, self._state())

    def _state(self) -> dict[str, Any]:
        agent = self.model
        assert isinstance(agent, DQN)
        buffer = agent.replay_buffer
        assert buffer is not None
        held = buffer.buffer_size if buffer.full else buffer.pos
        return {
            "job": self._job,
            "policy": agent.policy.state_dict(),
            "optimizer": agent.policy.optimizer.state_dict(),
            "buffer": {name: torch.from_numpy(getattr(buffer, name)[:held].copy()) for name in BUFFER},
            "at": (buffer.pos, buffer.full),
            "counters": (agent.num_timesteps, agent._n_calls, agent._n_updates, agent._episode_num),
            "epsilon": float(agent.exploration_rate),
            "random": _randomness(agent),
            "returns": list(self.returns),
            "accuracies": list(self.accuracies),
        }


def _randomness(agent: Any) -> dict[str, Any]:
    """The states of all generators that learning draws from."""
    _, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    of_actions = agent.action_space.np_random.bit_generator.state
    return {
        "python": list(random.getstate()[1]),
        "numpy": (torch.from_numpy(np.asarray(keys, np.int64)), int(position), int(has_gauss), float(gauss)),
        "torch": torch.get_rng_state(),
        "actions": (
            *(str(of_actions["state"][name]) for name in ("state", "inc")),  # of 128 bits
            int(of_actions["has_uint32"]),
            int(of_actions["uinteger"]),
        ),
    }


def _restore(state: dict[str, Any], agent: Any) -> None:
    random.setstate((3, tuple(state["python"]), None))
    keys, *rest = state["numpy"]
    np.random.set_state(("MT19937", keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    number, inc, has_uint32, uinteger = state["actions"]
    agent.action_space.np_random.bit_generator.state = {
        "bit_generator": "PCG64",
        "state": {"state": int(number), "inc": int(inc)},
        "has_uint32": has_uint32,
        "uinteger": uinteger,
    }


def _write(checkpoint: Path, state: dict[str, Any]) -> None:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_whole(checkpoint, buffer.getvalue(), "make room or choose another folder")
