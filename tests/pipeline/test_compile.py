import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from edgeprune.cache import StageCache
from edgeprune.data.encoded import Stretch
from edgeprune.errors import ConfigError, InputError, MissingError, UnknownNameError
from edgeprune.interleaved.settings import Settings
from edgeprune.latency_table import Entry, Key, LatencyTable, Work, write_table
from edgeprune.pipeline.compile import compile_bundle, prepare
from edgeprune.recipe import (
    WHILE_TRAINING,
    Budgets,
    DataPart,
    DynamicPart,
    LossPart,
    PrunePart,
    QuantizePart,
    Recipe,
    RewardPart,
    RlPart,
    TrainPart,
)
from edgeprune.targets.load import load_target
from edgeprune.targets.target import BackendUse


@pytest.fixture
def refused(tmp_path):
    """Compile with these, which must be refused before any work."""

    def run(recipe: Recipe, target: str = "cpu", backends: tuple[str, ...] | None = None) -> None:
        try:
            compile_bundle(recipe, load_target(target), out=tmp_path / "out", backends=backends, cache=None)
        finally:
            assert not (tmp_path / "out").exists()

    return run


def test_a_backend_the_target_has_not_is_named_with_the_nearest(refused):
    with pytest.raises(UnknownNameError, match="did you mean 'ort'"):
        refused(Recipe(), backends=("orrt",))


def test_a_precision_the_target_does_not_execute_is_refused_with_those_it_does(refused):
    recipe = Recipe(quantize=QuantizePart(precision="bf16"))
    with pytest.raises(ConfigError, match=r"jetson-orin-nano does not execute bf16 in tensorrt: fp16, fp32, int8"):
        refused(recipe, "jetson")


def test_a_latency_budget_for_a_device_that_is_not_here_is_missing_the_device(refused):
    with pytest.raises(MissingError, match="is not this machine"):
        refused(Recipe(budgets=Budgets(max_latency_ms=1)), "jetson")


@pytest.mark.parametrize("text", [None, "layers: {'*': int9}", "- int8"])
def test_a_plan_that_is_none_is_refused_before_any_work(refused, tmp_path, text):
    file = tmp_path / "plan.yaml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ConfigError, match=r"plan\.yaml"):
        refused(Recipe(quantize=QuantizePart(precision="mixed", plan=file)))


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (PrunePart(keep=0.5, sparsity=0.5), "--sparsity says what goes of the weights, --keep"),
        (PrunePart(sparsity=0.5, cost="latency"), "prune.sparsity says what goes of the weights, prune.cost: latency"),
        (PrunePart(cost="latency"), r"prune\.cost: latency: give --latency-table"),
        (PrunePart(pruner="loss", keep=0.5, loss=LossPart(threshold=0.01)), r"prune\.loss\.threshold says how far"),
        (
            PrunePart(pruner="loss", remove="blocks"),
            r"prune\.remove: blocks: --pruner loss leaves blocks where they are",
        ),
        (PrunePart(pruner="rl", fractions={"conv1": 1}), r"prune\.fractions: --pruner rl has no regard to them"),
        (PrunePart(pruner="rl", rl=RlPart(reward=RewardPart(latency=1))), r"prune\.rl\.reward\.latency: nothing"),
        (PrunePart(pruner="dynamic", cost="latency"), "weights that --pruner dynamic drops take the time"),
        (
            PrunePart(pruner="loss", schedule="one-shot"),
            r"prune\.schedule: one-shot: --pruner loss removes after every",
        ),
        (
            PrunePart(pruner="rl", rl=RlPart(random=True, policy=Path("p"))),
            r"prune\.rl\.policy decides by what it learned",
        ),
        (
            PrunePart(pruner="dynamic", keep=0.3, dynamic=DynamicPart(pattern="2:4")),
            "2:4 says what stays, and so does keep",
        ),
        (
            PrunePart(pruner="dynamic", sparsity=0.5, dynamic=DynamicPart(pattern="2:4")),
            "2:4 says what stays, and so does sparsity",
        ),
        (
            PrunePart(pruner="dynamic", dynamic=DynamicPart(pattern="2:4", distribution="uniform")),
            "2:4 says what stays, and so does distribution",
        ),
        (
            PrunePart(pruner="dynamic", dynamic=DynamicPart(every_epochs=1)),
            r"prune\.dynamic\.every_epochs: has no effect with schedule fine: leave it out",
        ),
        (PrunePart(removals=20), r"prune\.removals: all goes at once: say prune\.schedule"),
        (PrunePart(schedule="linear", epochs=31), r"31 epochs of pruning do not fit into the 30"),
    ],
)
def test_pruning_that_contradicts_itself_is_refused_before_any_work(refused, part, message):
    with pytest.raises(InputError, match=message):
        refused(Recipe(prune=part))


@pytest.mark.parametrize("pruner", WHILE_TRAINING)
def test_pruning_while_training_needs_a_training_and_weights_that_stay(refused, pruner):
    part = PrunePart(pruner=pruner)
    with pytest.raises(ConfigError, match=f"--pruner {pruner} prunes while it trains, and no epochs are asked for"):
        refused(Recipe(prune=part, train=TrainPart(recover_epochs=0)))
    with pytest.raises(ConfigError, match=r"quantize\.epochs: weights that --pruner .* dropped would move again"):
        refused(Recipe(prune=part, quantize=QuantizePart(epochs=2)))


def test_an_agent_that_is_bound_by_latency_is_paid_for_it_too(refused, tmp_path):
    one = Entry(Key("ort", "Gemm", "1x2 > 1x2", "int8"), "made", 1.0, Work(4, 16, 2), 8, "2026-01-01T00:00:00+00:00")
    write_table(LatencyTable("cpu", "none", "0", (one,)), tmp_path / "table.csv")
    recipe = Recipe(prune=PrunePart(pruner="rl", cost="latency"), latency_table=tmp_path / "table.csv")
    with pytest.raises(
        ConfigError, match=r"the agent would be paid for no millisecond: say prune\.rl\.reward\.latency"
    ):
        refused(recipe)


def test_a_latency_table_that_is_not_there_is_refused_before_any_work(refused):
    with pytest.raises(InputError, match=r"none\.csv: no such file"):
        refused(Recipe(latency_table=Path("none.csv")))


def test_pruning_a_graph_is_refused_only_where_it_was_asked_for(refused, tmp_path):
    with pytest.raises(ConfigError, match="an ONNX file cannot be pruned"):
        refused(Recipe(model="user.onnx", prune=PrunePart(pruner="magnitude")))


class Said(list):
    """Progress that keeps what it is told."""

    say = list.append


def test_a_pretrained_model_brings_what_is_done_to_images_unless_another_is_given(tmp_path):
    for row in range(20):
        file = tmp_path / "photos" / "ab"[row % 2] / f"{row}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((9 + row, 12, 3), row, np.uint8)).save(file)
    model = tmp_path / "vit"
    model.mkdir()
    (model / "config.json").write_text("{}")
    (tmp_path / "how.yaml").write_text("size: [6, 6]")
    said = Said()

    def preprocessing(**more):
        recipe = Recipe(model=f"hf:{model}", data=DataPart(name=str(tmp_path / "photos"), **more))
        return prepare(recipe, load_target("cpu"), None, None, said).splits.preprocess

    assert preprocessing().resize is None
    assert any("no preprocessor_config.json lies with it" in line for line in said)
    processor = {"image_mean": [0.1] * 3, "image_std": [0.2] * 3, "size": {"height": 8, "width": 4}}
    (model / "preprocessor_config.json").write_text(json.dumps(processor))
    own = preprocessing()
    assert (own.resize, own.mean, own.std) == (Stretch(8, 4), (0.1,) * 3, (0.2,) * 3)
    assert preprocessing(preprocess=tmp_path / "how.yaml").resize == Stretch(6, 6)
    (model / "preprocessor_config.json").write_text(json.dumps(processor | {"do_pad": True}))
    with pytest.raises(ConfigError, match=r"do_pad cannot be followed: say what is done to images with --preprocess"):
        preprocessing()


@pytest.mark.parametrize(
    ("isa", "backends", "precision", "told"),
    [
        ((), ("ort",), "int8", True),
        ((), None, "int4", True),
        (("avx2",), ("ort",), "int8", False),
        ((), ("ort",), "fp32", False),
        ((), ("tensorrt",), "int8", False),
    ],
)
def test_it_is_told_once_where_weights_lose_a_bit_because_nobody_says_what_the_processor_has(
    isa, backends, precision, told
):
    gpu, said = load_target("gpu"), Said()
    both = {"ort": BackendUse(precisions=("fp32", "int8")), **gpu.backends}
    target = gpu.model_copy(update={"name": "server", "isa": isa, "backends": both})
    recipe = Recipe(model="cnn", quantize=QuantizePart(precision=precision))
    prepare(recipe, target, backends, None, said)
    lines = [line for line in said if "7 bits" in line]
    assert len(lines) == told
    assert all(word in line for line in lines for word in ("server: no `isa`", "targets detect"))


MLP = """<ir_version: 10, opset_import: ["" : 20]>
g (float[N,1,8,8] x) => (float[N,10] y) {
  [flat] f = Flatten(x)
  [one] a = Gemm<transB=1>(f, v)
  [relu] r = Relu(a)
  [two] y = Gemm<transB=1>(r, w)
}"""


def test_an_old_tensorrt_gets_int8_and_beside_it_int4_that_is_unproven(tmp_path):
    model = onnx.parser.parse_model(MLP)
    for name, shape in {"v": (32, 64), "w": (10, 32)}.items():
        drawn = np.random.default_rng(0).normal(0, 0.2, shape).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(drawn, name))
    onnx.save(model, tmp_path / "mlp.onnx")
    recipe = Recipe(
        model=str(tmp_path / "mlp.onnx"), quantize=QuantizePart(precision="int4"), budgets=Budgets(max_drop=100)
    )
    bundle, measured = compile_bundle(
        recipe, load_target("jetson"), out=tmp_path / "out", cache=StageCache(tmp_path / "cache")
    )
    variants = {one.name: one for one in bundle.core.variants}
    assert list(variants) == ["tensorrt-fp32", "tensorrt-fp16", "tensorrt-int8", "tensorrt-int4"]
    assert [name for name, one in variants.items() if one.unproven] == ["tensorrt-int4"]
    opsets = {name: onnx.load(bundle.files(one)["model"]).opset_import[0].version for name, one in variants.items()}
    assert (opsets["tensorrt-int8"], opsets["tensorrt-int4"]) == (20, 21)
    assert [layer.precision for layer in variants["tensorrt-int4"].layers] == ["int4", "int4"]
    assert measured.default == "tensorrt-int8"
    (told,) = [one for one in measured.measurements if one.unproven]
    assert told.warnings[0].startswith("unproven: INT4 weights need opset 21")


def test_tensors_may_be_called_what_numpy_takes_for_words_of_its_own(tmp_path):
    model = onnx.parser.parse_model(
        MLP.replace(" x)", " file)").replace("(x)", "(file)").replace(" y", " allow_pickle")
    )
    for name, shape in {"v": (32, 64), "w": (10, 32)}.items():
        drawn = np.random.default_rng(0).normal(0, 0.2, shape).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(drawn, name))
    onnx.save(model, tmp_path / "odd.onnx")
    recipe = Recipe(
        model=str(tmp_path / "odd.onnx"), quantize=QuantizePart(precision="int8"), budgets=Budgets(max_drop=100)
    )
    quick = Settings(restarts=1, seconds=0.02, rounds=2, energy_s=0)
    bundle, measured = compile_bundle(
        recipe,
        load_target("cpu"),
        out=tmp_path / "out",
        backends=("ort",),
        cache=StageCache(tmp_path / "cache"),
        settings=quick,
    )
    assert [spec.name for spec in (*bundle.core.inputs, *bundle.core.outputs)] == ["file", "allow_pickle"]
    with np.load(bundle.root / "samples.npz", allow_pickle=False) as samples:
        assert set(samples.files) == {"file", "allow_pickle"}
    assert [one.variant for one in (measured.baseline, *measured.measurements) if one.accuracy] == [
        "ort-fp32",
        "ort-int8",
    ]
