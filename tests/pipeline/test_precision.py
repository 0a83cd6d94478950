import json

import numpy as np
import onnx
import pytest

from edgeprune.api import recipe_with
from edgeprune.bundle import PLAN
from edgeprune.cache import StageCache
from edgeprune.decisions import read_predicted
from edgeprune.errors import ConfigError
from edgeprune.pipeline import single
from edgeprune.pipeline.artifact import MODEL
from edgeprune.pipeline.compile import prepare, stages
from edgeprune.pipeline.lowered import VARIANT
from edgeprune.pipeline.precision import _loss_of, _with_margin
from edgeprune.recipe import Budgets, PrunePart, QuantizePart
from edgeprune.targets.load import load_target

WHOLE = PrunePart(pruner="none")


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> StageCache:
    return StageCache(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def compiled(cache):
    """The stages of a job on the digits, the network trained for three epochs."""

    def run(**options):
        recipe = recipe_with({"epochs": 3, "pruner": "none", "precision": "mixed", **options})
        return stages(prepare(recipe, load_target("cpu"), ("ort",), cache))

    return run


def variant(parts, name: str) -> dict:
    (stage,) = (stage for backend, narrow, stage in parts.variants if f"{backend}-{narrow}" == name)
    return json.loads((stage.folder / VARIANT).read_bytes()) | {"size": (stage.folder / "model.onnx").stat().st_size}


def bits(record: dict) -> list[float]:
    return [layer["weight_bits"] for layer in record["layers"]]


def test_mixed_is_smaller_than_int8_where_little_may_be_lost_and_as_large_where_nothing_may(compiled):
    parts = compiled()
    eight, mixed = variant(parts, "ort-int8"), variant(parts, "ort-mixed")
    assert mixed["size"] < 0.9 * eight["size"]
    assert {layer["precision"] for layer in mixed["layers"]} == {"int8"}  # of the kernels
    assert min(bits(mixed)) == 4
    assert bits(eight) == [8] * 4


def test_a_plan_that_was_found_can_be_edited_and_given_back(compiled, cache, tmp_path):
    compiled()
    (found,) = cache.root.glob(f"plan/*/{PLAN}")
    text = found.read_text(encoding="utf-8")
    edited = tmp_path / "mine.yaml"
    edited.write_text(text + "  conv1.weight: fp32\n  '*dense2*': {precision: int8, reason: I say so}\n")
    layers = {layer["weight"]: layer for layer in variant(compiled(plan=edited), "ort-mixed")["layers"]}
    assert layers["conv1.weight"]["precision"] == "fp32"
    assert (layers["dense2.weight"]["weight_bits"], layers["dense2.weight"]["reason"]) == (8, "I say so")


def test_a_size_that_is_asked_for_is_filled(compiled):
    size = variant(compiled(), "ort-int8")["size"]
    found = variant(compiled(max_size_mb=0.8 * size / 1e6), "ort-mixed")
    assert 0.6 * size < found["size"] <= 0.8 * size


def test_four_bits_everywhere_are_what_was_asked_for(compiled):
    assert bits(variant(compiled(precision="int4"), "ort-int4")) == [4] * 4


def test_training_with_the_rounding_in_place_lands_on_the_grid_that_is_emitted(compiled, cache):
    parts = compiled(precision="int4", quantize_epochs=1)
    before = compiled(precision="int4")
    tuned, plain = variant(parts, "ort-int4"), variant(before, "ort-int4")
    assert tuned["size"] == plain["size"]
    (stage,) = (stage for _, narrow, stage in parts.variants if narrow == "int4")
    (exported,) = (
        path
        for path in cache.root.glob(f"export/*/{MODEL}")
        if path.parent.name == json.loads((stage.folder / "stage.json").read_bytes())["inputs"]["model"]
    )
    stored = {
        one.name: onnx.numpy_helper.to_array(one) for one in onnx.load(stage.folder / "model.onnx").graph.initializer
    }
    floats = {one.name: onnx.numpy_helper.to_array(one) for one in onnx.load(exported).graph.initializer}
    weight = stored["conv2.weight"].astype(np.float32) * stored["conv2.weight/scale"].reshape(-1, 1, 1, 1)
    np.testing.assert_allclose(weight, floats["conv2.weight"], atol=1e-6 * np.abs(weight).max())


def test_a_graph_alone_is_judged_by_its_answers(compiled, cache, job, tmp_path):
    graph = compiled().exported.folder / MODEL
    one = job(model=str(graph), prune=WHOLE, quantize=QuantizePart(precision="mixed"))
    made = single.quantize(one, "ort", tmp_path / "mixed.onnx")
    assert min(layer["weight_bits"] for layer in made.facts["layers"]) == 4
    (found,) = one.cache.root.glob("sensitivity/*/sensitivity.json")
    assert json.loads(found.read_bytes())["method"] == "divergence"


def test_what_was_tried_is_kept_with_what_it_lost(compiled, cache):
    compiled()
    for file in cache.root.glob("plan/*/tried.json"):
        tried = json.loads(file.read_bytes())
        assert sum(one["chosen"] for one in tried) == 1
        assert all(one["file_bytes"] > 0 and np.isfinite(one["lost_points"]) for one in tried)
        predicted = read_predicted(file.parent)
        assert predicted is not None
        assert all(losses.keys() == {"int8", "int4"} for losses in predicted.losses.values())


def test_nothing_is_lost_where_every_answer_is_the_same_however_few_they_are(job):
    """The interval of two equal counts reaches half a point up with 300 samples."""
    one = job(quantize=QuantizePart(precision="mixed"))
    labels = one.splits.labels("select")
    reference = {"y": np.eye(10, dtype=np.float32)[labels]}
    lost = _loss_of(one, 0.0, reference)
    assert _with_margin(lost({"y": 0.5 * reference["y"]})) == 0
    other = reference["y"].copy()
    other[0] = np.roll(other[0], 1)
    found = lost({"y": other})
    assert found.estimate == pytest.approx(100 / len(labels))
    assert _with_margin(found) > found.estimate


def test_a_budget_that_all_layers_in_float_meet_is_met(compiled, job, tmp_path):
    """However little it is, and whatever is lost by a single plan in integers."""
    graph = compiled().exported.folder / MODEL
    asked = {"quantize": QuantizePart(precision="mixed"), "budgets": Budgets(max_drop=0)}
    made = single.quantize(job(model=str(graph), prune=WHOLE, **asked), "ort", tmp_path / "q.onnx")
    assert made.files[0].is_file()


def test_a_plan_for_another_model_is_refused_with_the_nearest_name(job, onnx_file, tmp_path):
    graph = onnx_file(
        "(float[n, 1, 8, 8] x) => (float[n, 10] y) <float[64, 10] w = {"
        + ", ".join(str(0.01 * (i % 7)) for i in range(640))
        + "}> { flat = Flatten(x) y = MatMul(flat, w) }"
    )
    (tmp_path / "plan.yaml").write_text("layers: {'*': int8, conv9.weight: int4}")
    part = QuantizePart(precision="mixed", plan=tmp_path / "plan.yaml")
    with pytest.raises(ConfigError, match=r"unknown weight 'conv9\.weight'"):
        single.quantize(job(model=str(graph), prune=WHOLE, quantize=part), "ort", tmp_path / "q.onnx")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"plan": "p.yaml", "precision": "int8"}, "--plan"),
        ({"quantize_epochs": 2, "precision": "bf16"}, "--quantize-epochs"),
    ],
)
def test_an_option_that_would_change_nothing_is_refused(options, told):
    with pytest.raises(ConfigError, match=told):
        recipe_with(options)
