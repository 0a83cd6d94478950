from __future__ import annotations

import json
from dataclasses import replace

import pytest
from safetensors.numpy import load_file

from edgeprune.errors import ConfigError, ModelError
from edgeprune.pipeline import network, single
from edgeprune.progress import Silent
from edgeprune.recipe import DynamicPart, LossPart, PrunePart, Recipe, RlPart, TrainPart, validated

SHORT = TrainPart(epochs=2, recover_epochs=4)


def pruning(out):
    return json.loads((out / "pruning.json").read_bytes())


def zeros(out):
    """The fraction of zeros in all weights of layers."""
    weights = [one for name, one in load_file(out / "pruned.safetensors").items() if one.ndim > 1]
    return sum(int((one == 0).sum()) for one in weights) / sum(one.size for one in weights)


def test_a_network_is_trained_sparse_from_its_first_weights_on(job, tmp_path):
    long = TrainPart(epochs=1, recover_epochs=15, lr=0.003)
    part = PrunePart(pruner="dynamic", sparsity=0.8, dynamic=DynamicPart(every_steps=10))
    made = single.prune(job(model="lenet5", train=long, prune=part), tmp_path / "sparse")
    found = pruning(tmp_path / "sparse")
    assert 0.8 <= zeros(tmp_path / "sparse") < 0.805  # one that was grown may still be zero
    assert found["method"] == "dynamic"
    assert found["events"][0]["dropped"] == found["events"][0]["grown"] > 0
    assert found["training_flops"] < 0.5 * found["training_flops_dense"]
    samples = found["training_flops_dense"] / (6 * found["macs_before"] * long.recover_epochs)
    assert round(samples, 6) == len(job().splits.digests["train"])
    assert made.facts["scores"]["report"]["top1"].estimate > 0.8
    again = single.prune(job(model="lenet5", train=long, prune=part), tmp_path / "again")
    assert (tmp_path / "again" / "pruned.safetensors").read_bytes() == made.files[0].read_bytes()
    assert again.facts == made.facts


def test_what_contributes_least_goes_every_epoch_by_a_budget_or_a_threshold(job, tmp_path):
    part = PrunePart(pruner="loss", keep=0.4, loss=LossPart(connections=0.2, until=0.75))
    single.prune(job(train=SHORT, prune=part), tmp_path / "budget")
    found = pruning(tmp_path / "budget")
    steps = found["events"][0]["step"]
    assert [event["step"] for event in found["events"]] == [steps, 2 * steps, 3 * steps]
    assert found["macs_after"] <= 0.4 * found["macs_before"]
    assert found["training_flops"] < 0.9 * found["training_flops_dense"]
    assert zeros(tmp_path / "budget") == pytest.approx(0.2, abs=0.01)
    part = PrunePart(pruner="loss", loss=LossPart(threshold=0.01, connections=0.5))
    made = single.prune(job(train=SHORT, prune=part), tmp_path / "threshold")
    assert pruning(tmp_path / "threshold")["events"]
    assert made.facts["scores"]["report"]["top1"].estimate > 0.3


def test_an_agent_learns_prunes_and_its_policy_can_be_taken_again_or_is_refused(job, tmp_path):
    pytest.importorskip("stable_baselines3")
    how = {"every_epochs": 1, "episodes": 3, "episode_epochs": 2, "episode_samples": 64}
    part = PrunePart(pruner="rl", keep=0.6, rl=RlPart(**how))
    single.prune(job(train=SHORT, prune=part), tmp_path / "agent")
    assert {"policy.safetensors", "policy.json", "learning.json"} <= {
        one.name for one in (tmp_path / "agent").iterdir()
    }
    assert len(json.loads((tmp_path / "agent" / "learning.json").read_bytes())["returns"]) == 3
    found = pruning(tmp_path / "agent")
    assert found["method"] == "rl"
    taken = PrunePart(pruner="rl", keep=0.6, rl=RlPart(**how, policy=tmp_path / "agent"))
    single.prune(job(train=SHORT, prune=taken), tmp_path / "again")
    weights = [(tmp_path / name / "pruned.safetensors").read_bytes() for name in ("agent", "again")]
    assert weights[0] == weights[1]
    assert pruning(tmp_path / "again")["rl"]["policy"] == "agent"
    longer = job(
        train=SHORT.model_copy(update={"recover_epochs": 3}),
        prune=PrunePart(pruner="rl", keep=0.6, rl=RlPart(**how | {"every_epochs": 0.5})),
    )
    single.prune(longer, tmp_path / "longer")  # does not learn anew
    assert len([*longer.cache.root.glob("learn/*/policy.json")]) == 1
    with pytest.raises(ModelError, match="agent: was learned for another architecture"):
        single.prune(job(model="lenet5", train=SHORT, prune=taken), tmp_path / "other")
    drawn = PrunePart(pruner="rl", keep=0.6, rl=RlPart(every_epochs=1, random=True))
    single.prune(job(train=SHORT, prune=drawn), tmp_path / "random")
    assert pruning(tmp_path / "random")["events"]


@pytest.mark.parametrize(
    ("target", "pattern", "told"),
    [
        ("cpu", "2:4", "make none of the target's runtimes faster"),
        ("jetson", None, "make none of the target's runtimes faster"),
        ("jetson", "2:4", "TensorRT is asked for sparse kernels"),
    ],
)
def test_what_zeros_are_good_for_is_said_before_anything_is_trained(job, target, pattern, told):
    said = []

    class Heard(Silent):
        def say(self, line):
            said.append(line)

    sparse = {"pattern": pattern} if pattern else {}
    part = PrunePart(pruner="dynamic", dynamic=DynamicPart(every_steps=5, **sparse))
    network.check_pruning(replace(job(target, train=SHORT, prune=part), progress=Heard()))
    assert len(said) == 1
    assert told in said[0]


@pytest.mark.parametrize(
    "keys", [("dynamic", "every_steps"), ("dynamic", "every_epochs"), ("loss", "every_epochs"), ("rl", "every_epochs")]
)
def test_an_interval_of_zero_is_refused(keys):
    part, key = keys
    with pytest.raises(ConfigError, match=rf"mine\.yaml: prune\.{part}\.{key}: .* greater than 0 \(got 0\)"):
        validated(Recipe, {"prune": {part: {key: 0}}}, "mine.yaml")


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"sparsity": 0.5, "dynamic": DynamicPart(schedule="coarse")}, "do not fit into"),
        ({"sparsity": 0.5, "dynamic": DynamicPart(schedule="coarse", every_epochs=2)}, "0.16 can: train longer"),
        ({"sparsity": 0.8, "dynamic": DynamicPart(every_steps=1000)}, "every 1000 steps do not fit into"),
        (
            {"pruner": "loss", "loss": LossPart(every_epochs=3)},
            "a removal every 3 epochs does not fit into 0.6 of the 4",
        ),
        ({"pruner": "rl", "rl": RlPart(every_epochs=4)}, "a decision every 4 epochs does not fit into the 4 of the"),
        ({"pruner": "loss", "keep": 0.001}, "keep 0.001 cannot be reached"),
        (
            {"sparsity": 0.99999, "dynamic": DynamicPart(every_steps=9)},
            "cannot be reached with the erdos-renyi-kernel distribution",
        ),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_trained(job, tmp_path, how, message):
    asked = job(model="lenet5", train=SHORT, prune=PrunePart(**{"pruner": "dynamic"} | how))
    with pytest.raises(ConfigError, match=message):
        single.prune(asked, tmp_path / "out")
    assert not list((tmp_path / "cache").glob("train/*"))


def test_an_agent_is_refused_code_that_would_hide_activations_from_it(job, tmp_path):
    asked = job(
        model="lenet5", train=SHORT.model_copy(update={"compile": True}), prune=PrunePart(pruner="rl", keep=0.5)
    )
    with pytest.raises(ConfigError, match=r"train\.compile: an agent sees activations through hooks"):
        single.prune(asked, tmp_path / "out")
    assert not list((tmp_path / "cache").glob("train/*"))
