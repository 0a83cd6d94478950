from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("stable_baselines3")

from edgeprune.errors import ConfigError
from edgeprune.prune.agent.environment import PruningEnvironment
from edgeprune.prune.agent.learn import DqnSettings, learn, play
from edgeprune.prune.agent.policy import LearnedPolicy, RandomPolicy
from edgeprune.prune.agent.reward import Judged, Reward

LAYERS = 4
EPISODES = 5


def environment(short, evaluate=None, reward=Reward(), **how):  # noqa: B008
    return PruningEnvironment(short.begin, short.make_walk, evaluate or short.judge, reward, epochs=3, **how)


def learned(env, episodes=EPISODES, **how):
    return learn(env, episodes=episodes, transitions=2 * LAYERS, seed=1, settings=DqnSettings(batch=8), **how)


class KilledError(Exception):
    pass


@pytest.mark.parametrize("after", [1, 3])
def test_learning_that_was_killed_ends_with_the_policy_of_an_unbroken_one(short, after, tmp_path):
    unbroken = learned(environment(short))
    assert len(unbroken.curve.returns) == EPISODES

    def kill(episode, worth):
        if episode > after:
            raise KilledError

    with pytest.raises(KilledError):
        learned(environment(short), checkpoint=tmp_path / "checkpoint", note=kill)
    told = []
    again = learned(
        environment(short), checkpoint=tmp_path / "checkpoint", note=lambda episode, _: told.append(episode)
    )
    assert told == list(range(after + 1, EPISODES + 1))
    assert again.curve == unbroken.curve
    assert all(torch.equal(again.weights[name], one) for name, one in unbroken.weights.items())


def test_a_checkpoint_that_is_torn_or_of_other_learning_is_not_gone_on_with(short, tmp_path):
    checkpoint = tmp_path / "checkpoint"
    learned(environment(short), 2, checkpoint=checkpoint)
    told = []
    learned(environment(short), 3, checkpoint=checkpoint, note=lambda episode, _: told.append(episode))
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    learned(environment(short), 3, checkpoint=checkpoint, note=lambda episode, _: told.append(episode))
    assert told == [1, 2, 3] * 2


def test_an_agent_that_is_paid_for_nothing_but_operations_learns_to_remove_neurons(short):
    """Accuracy is worth nothing here, so what is best is known: neurons, while any can go."""
    paid = Reward(accuracy=0, loss=0, parameters=0, flops=1)
    env = environment(short, lambda model: Judged(0.0, 0.0), paid)
    found = learned(env, 20)
    env.reset()
    policy = LearnedPolicy(found.weights, env.walk.architecture)
    best = play(env, [policy] * 2)
    random = play(env, map(RandomPolicy, range(5)))
    assert min(best.returns) > np.mean(random.returns)
    assert np.mean(found.curve.returns[-5:]) > np.mean(found.curve.returns[:5])


def test_random_policies_act_otherwise_in_each_episode(short):
    """Of one training: what differs is what they did."""
    env = PruningEnvironment(
        lambda _, make: short.begin(0, make), short.make_walk, lambda _: Judged(0.0, 0.0), Reward(), epochs=3
    )
    assert len(set(play(env, map(RandomPolicy, range(4))).returns)) > 1
    assert len(set(play(env, [RandomPolicy(0)] * 4).returns)) == 1


def test_no_episodes_are_refused(short):
    with pytest.raises(ConfigError, match="no episodes"):
        learned(environment(short), 0)
