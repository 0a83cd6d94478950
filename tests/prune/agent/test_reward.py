from __future__ import annotations

import math

import pytest

from edgeprune.errors import ConfigError, ModelError
from edgeprune.prune.agent.reward import Judged, Reward
from edgeprune.prune.agent.walk import Left

HALF = Left(0.5, 0.25, 0.4)


def test_a_state_is_worth_its_accuracy_less_what_it_costs():
    reward = Reward(accuracy=2, loss=0.5, parameters=0.1, flops=0.2, latency=0.3)
    assert reward.worth(Judged(0.9, 0.4), HALF) == pytest.approx(1.8 - 0.2 - 0.05 - 0.05 - 0.12)


@pytest.mark.parametrize(
    ("judged", "left", "term"),
    [
        (Judged(math.nan, 0.4), HALF, "accuracy is nan"),
        (Judged(0.9, math.nan), HALF, "loss is nan"),
        (Judged(0.9, math.inf), HALF, "loss is -inf"),
        (Judged(0.9, 0.4), Left(0.5, math.nan, 0.4), "flops is nan"),
    ],
)
def test_a_term_that_is_no_number_is_named(judged, left, term):
    with pytest.raises(ModelError, match=f"reward: its term {term}: learning stops here"):
        Reward().worth(judged, left)


@pytest.mark.parametrize("weight", [-1.0, math.nan])
def test_a_weight_that_is_none_is_refused(weight):
    with pytest.raises(ConfigError, match="reward: the weight of flops must be a number, 0 or more"):
        Reward(flops=weight)
