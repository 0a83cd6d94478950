from __future__ import annotations

import math

import numpy as np
import pytest

gymnasium = pytest.importorskip("gymnasium")
from gymnasium.utils.env_checker import check_env  # noqa: E402

from edgeprune.errors import ConfigError, ModelError  # noqa: E402
from edgeprune.prune.agent.environment import PruningEnvironment  # noqa: E402
from edgeprune.prune.agent.reward import Judged, Reward  # noqa: E402
from edgeprune.prune.agent.walk import Action  # noqa: E402


def environment(short, evaluate=None, **how):
    return PruningEnvironment(short.begin, short.make_walk, evaluate or short.judge, Reward(), **{"epochs": 3} | how)


def played(env, action):
    """Every transition of an episode."""
    env.reset()
    over, found = False, []
    while not over:
        seen, reward, over, _, told = env.step(action)
        found.append((seen, reward, told))
    return found


def test_it_is_an_environment_as_gymnasium_checks_them(short):
    check_env(environment(short), skip_render_check=True)


def test_one_transition_for_each_layer_at_each_decision_point(short):
    env = environment(short)
    found = played(env, Action.KEEP)
    assert len(found) == 2 * len(env.walk.layers)
    assert env.walk.steps == 9
    assert [bool(told) for _, _, told in found].index(True) == len(found) - 1


def test_the_rewards_of_an_episode_add_up_to_what_its_network_is_worth(short):
    env = environment(short)
    first = Reward().worth(judge_first(short, env), env.walk.left)
    over, total = False, 0.0
    while not over:
        _, reward, over, _, told = env.step(Action.NEURONS)
        total += reward
    last = Reward().worth(short.judge(env.walk.model), env.walk.left)
    assert total == pytest.approx(last - first)
    assert told["worth"] == pytest.approx(last)
    assert env.walk.left.flops <= 0.75


def judge_first(short, env):
    env.reset(seed=0)
    return short.judge(env.walk.model)


def test_what_goes_is_paid_at_once_and_accuracy_behind_the_last_layer(short):
    env = environment(short, lambda model: Judged(0.5, 1.0))
    found = played(env, Action.CONNECTIONS)
    rewards = [reward for _, reward, _ in found]
    assert rewards[0] > 0  # connections are gone, and nothing else changed
    assert all(reward >= 0 for reward in rewards)


def test_episodes_differ_and_the_same_one_is_always_the_same(short):
    env = environment(short)
    first, second = (env.reset()[0] for _ in range(2))
    again, _ = env.reset(seed=0)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, second)


def test_shuffled_observations_hold_the_same_numbers_in_other_places(short):
    plain, _ = environment(short).reset(seed=4)
    shuffled, _ = environment(short, shuffled=True).reset(seed=4)
    assert not np.array_equal(plain, shuffled)
    assert np.array_equal(np.sort(plain), np.sort(shuffled))


def test_a_reward_that_is_no_number_stops_and_names_its_term(short):
    env = environment(short, lambda model: Judged(0.5, 1.0 if env.walk.steps < 6 else math.nan))
    with pytest.raises(ModelError, match="its term loss is nan"):
        played(env, Action.KEEP)


@pytest.mark.parametrize("every", [0, 3, 5])
def test_an_interval_that_does_not_fit_is_refused(short, every):
    with pytest.raises(ConfigError, match=f"a decision every {every} epochs does not fit into episodes of 3"):
        environment(short, every=every)
