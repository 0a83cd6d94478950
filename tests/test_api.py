from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import edgeprune
from edgeprune.api import OPTIONS, chosen_variant, default_out, recipe_with, stage_cache
from edgeprune.errors import ConfigError, CorruptError, DataError, InputError, UnknownNameError
from edgeprune.recipe import Recipe
from edgeprune.targets.load import load_target

GIVEN = """
model: resnet20
weights: resnet20.safetensors
data:
  name: cifar10
  normalize: {mean: [0.5], std: [0.25]}
  report: {source: "cifar10:test"}
prune: {pruner: none}
budgets: {max_drop: 0.3}
"""


@pytest.fixture
def given(tmp_path) -> Path:
    path = tmp_path / "given.yaml"
    path.write_text(GIVEN)
    return path


def test_importing_the_package_imports_nothing_else():
    code = "import sys, edgeprune; print(*sorted(m for m in sys.modules if m.partition('.')[0] in "
    code += "('numpy', 'pydantic', 'yaml', 'click', 'torch', 'onnx', 'edgeprune')))"
    shown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert shown.split() == ["edgeprune"]


def test_every_public_name_is_there():
    for name in edgeprune.__all__:
        assert getattr(edgeprune, name)
    assert set(edgeprune.__all__) <= set(dir(edgeprune))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        edgeprune.nonsense  # noqa: B018


def test_without_options_it_is_the_default_recipe():
    assert recipe_with({}) == Recipe()
    assert recipe_with(dict.fromkeys(OPTIONS)) == Recipe()


def test_every_option_reaches_its_place_in_the_recipe():
    values = {
        "model": "lenet5", "weights": Path("w.safetensors"), "data": "mnist", "calibration": "mnist",
        "pruner": "magnitude", "keep": 0.25, "precision": "mixed", "max_drop": 2.0, "max_latency_ms": 1.5,
        "max_size_mb": 0.1, "epochs": 3, "device": "cuda", "seed": 7, "preprocess": Path("p.yaml"),
        "vocabulary": Path("vocab.txt"), "length": 64, "task": "none", "metric": "score.py:score",
        "sparsity": 0.3, "remove": "blocks", "schedule": "cubic", "distill": 0.5,
        "inputs": ("x:float32[1,3]",), "observer": "mse", "plan": Path("plan.yaml"), "quantize_epochs": 2,
        "latency_table": Path("latency.csv"),
    }  # fmt: skip
    assert values.keys() == OPTIONS.keys()
    graph = recipe_with({"model": "net.onnx", "inputs": values.pop("inputs")})
    assert graph.data.inputs == ("x:float32[1,3]",)
    recipe = recipe_with(values).model_dump()
    for name, places in ((name, places) for name, places in OPTIONS.items() if name in values):
        found = recipe
        for place in places:
            found = found[place]
        assert found == values[name]


def test_options_override_the_recipe_and_leave_the_rest(given):
    recipe = recipe_with({"max_drop": 0.5, "seed": 3}, given)
    assert recipe.budgets.max_drop == 0.5
    assert recipe.seed == 3
    assert (recipe.model, recipe.weights, recipe.prune.pruner) == ("resnet20", Path("resnet20.safetensors"), "none")
    assert recipe.data.report is not None


def test_other_data_bring_their_own_splits(given):
    data = recipe_with({"data": "digits"}, given).data
    assert data.name == "digits"
    assert (data.report, data.normalize) == (None, None)


def test_a_shipped_recipe_is_found_by_its_name():
    assert recipe_with({}, "cnn-digits").data.name == "digits"
    with pytest.raises(UnknownNameError, match="did you mean 'cnn-digits'"):
        recipe_with({}, "cnn-digit")


def test_what_was_not_asked_for_is_not_marked_as_asked_for():
    assert "pruner" not in recipe_with({"keep": 0.25}).prune.model_fields_set
    assert "pruner" in recipe_with({"pruner": "magnitude"}).prune.model_fields_set


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"keep": 1.5}, r"^--keep: input should be less than or equal to 1 \(got 1\.5\)"),
        ({"epochs": -1}, r"^--epochs: input should be greater"),
        ({"pruner": "none", "keep": 0.5}, "--keep has no effect without a pruner"),
        ({"pruner": "dynamic", "schedule": "cubic"}, "^--schedule has no effect with --pruner dynamic or rl"),
        ({"epochs": 0, "distill": 0.5}, "^--distill has no effect where no epochs follow on the pruning"),
        ({"pruner": "loss", "remove": "blocks"}, "^--remove has no effect with a pruner that works while the network"),
        ({"model": "net.onnx", "weights": Path("w")}, "^--weights has no effect on an ONNX file"),
        ({"model": "net.onnx", "keep": 0.3, "epochs": 3}, "^--keep, --epochs has no effect on an ONNX file"),
        ({"model": "net.onnx", "device": "cuda"}, "^--device has no effect on an ONNX file"),
        ({"weights": Path("w"), "pruner": "none", "epochs": 3}, "^--epochs has no effect where the weights are given"),
        ({"weights": Path("w"), "pruner": "none", "device": "cuda"}, "^--device has no effect where the weights"),
        ({"precision": "bf16", "observer": "mse"}, "^--observer has no effect where nothing is quantized"),
        ({"observer": "msee"}, r"^--observer: input should be 'minmax'"),
        ({"kep": 0.5}, r"unknown options \['kep'\]; known are"),
    ],
)
def test_an_impossible_option_is_refused(options, said):
    with pytest.raises(ConfigError, match=said):
        recipe_with(options)


@pytest.mark.parametrize(
    ("model", "folder"),
    [
        ("cnn", "cnn-cpu"),
        ("nets/mine.py:small net", "mine-small-net-cpu"),
        ("/data/model.v2.onnx", "model.v2-cpu"),
        ("C:\\nets\\my.onnx", "my-cpu"),
    ],
)
def test_the_usual_folder_is_named_by_model_and_target(model, folder):
    assert default_out(Recipe(model=model), load_target("this-machine")) == Path("build") / folder


def test_the_stage_cache_is_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("EDGEPRUNE_CACHE", str(tmp_path))
    assert stage_cache().root == tmp_path
    assert stage_cache(again=True).again
    monkeypatch.delenv("EDGEPRUNE_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert stage_cache().root == tmp_path / ".cache" / "edgeprune"


def test_opening_what_is_no_bundle_says_how_to_make_one(tmp_path):
    with pytest.raises(InputError, match="no bundle here"):
        edgeprune.open(tmp_path)


@pytest.mark.parametrize(
    "option",
    [
        *({"weights": Path("w")}, {"epochs": 3}, {"device": "cuda"}, {"max_drop": 2.0}),
        *({"schedule": "cubic"}, {"distill": 0.5}),
    ],
)
def test_for_speed_only_nothing_is_trained_or_judged(option):
    (name,) = option
    flag = f"--{name.replace('_', '-')}"
    with pytest.raises(ConfigError, match=f"^{flag} has no effect with --speed-only, .*: leave it out$"):
        recipe_with(option, speed_only=True)
    assert recipe_with(option)


@pytest.mark.parametrize(
    "options", [{"weights": Path("w"), "epochs": 3}, {"pruner": "none", "epochs": 3}, {"model": "net.onnx", "seed": 1}]
)
def test_an_option_that_has_an_effect_is_taken(options):
    assert recipe_with(options)


def test_what_a_recipe_says_is_not_refused_only_what_is_asked_for_beside_it(given):
    assert recipe_with({}, given)
    with pytest.raises(ConfigError, match=r"^--epochs has no effect where the weights are given"):
        recipe_with({"epochs": 3}, given)


def test_predicting_is_running_one_sample_after_the_other(bundles):
    bundle = edgeprune.open(bundles["cpu"])
    with np.load(bundle.root / "samples.npz") as samples:
        feeds = {"input": samples["input"]}
    together = edgeprune.predict(bundle, feeds, "ort-int8")["output"]
    alone = [edgeprune.predict(bundle, {"input": x[None]}, "ort-int8")["output"][0] for x in feeds["input"]]
    np.testing.assert_array_equal(together, alone)


@pytest.mark.parametrize(
    ("feeds", "said"),
    [
        ({"foo": np.zeros((1, 1, 8, 8), np.float32)}, r"inputs \['foo'\] given; the model takes \['input'\]"),
        ({"input": np.zeros((0, 1, 8, 8), np.float32)}, "0 of 'input': give one at least"),
        ({"input": np.float32(1)}, "0 of 'input': give one at least"),
        ({"input": [[[[0.0] * 8] * 8]]}, "input 'input' is float64"),
        ({}, r"inputs \[\] given; the model takes \['input'\]"),
    ],
)
def test_samples_that_do_not_fit_are_refused_in_one_line(bundles, feeds, said):
    with pytest.raises(DataError, match=said):
        edgeprune.predict(edgeprune.open(bundles["cpu"]), feeds)


def test_a_folder_stands_for_its_bundle(bundles):
    with edgeprune.load(bundles["cpu"]) as named, edgeprune.load(str(bundles["cpu"]), "ort-int8") as other:
        assert named.input_names == other.input_names


def test_without_a_name_the_default_variant_answers(bundles):
    bundle = edgeprune.open(bundles["cpu"])
    assert chosen_variant(bundle).name in {"ort-fp32", "ort-int8"}
    assert chosen_variant(bundle, "baseline") is bundle.core.baseline


def test_a_bundle_edited_by_hand_has_no_default_from_before(bundles, tmp_path):
    root = shutil.copytree(bundles["cpu"], tmp_path / "edited")
    core = root / "bundle.json"
    core.write_text(core.read_text().replace('"seed": 0', '"seed": 1'))
    with pytest.raises(CorruptError, match=r"measured\.json: of another bundle: run `edgeprune bench"):
        edgeprune.load(edgeprune.open(root))
    variant = next((root / "variants").glob("*/model.onnx"))
    variant.write_bytes(variant.read_bytes() + b"\0")
    with pytest.raises(CorruptError, match="not the file that was bundled"):
        edgeprune.open(root)
