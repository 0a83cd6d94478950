"""NVIDIA's parser and compiler take what we lower, and make the kernels that were meant: TensorRT-RTX, without a GPU.

    python -m pip install 'edgeprune[tensorrt-rtx]'      (NVIDIA's licence, which is proprietary; `.ci/run` installs it)

It proves the graph and our calls, not the kernels that the TensorRT of a board will choose, and no speed.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgeprune.backends.tensorrt.build import Log, build_engine
from edgeprune.backends.tensorrt.build_file import read_build
from edgeprune.backends.tensorrt.lower import lower
from edgeprune.bundle import LayerPlan, Variant
from edgeprune.errors import CorruptError, MissingError, ModelError
from edgeprune.models.zoo import ZOO
from edgeprune.targets.load import load_target

pytestmark = [
    pytest.mark.system,
    pytest.mark.filterwarnings(
        "ignore:Use Deprecated in TensorRT-RTX"
    ),  # it times nothing, so its timing cache is idle
]

JETSON = load_target("jetson")


@pytest.fixture(scope="module")
def layers(program):
    return program("tensorrt_layers")


@pytest.fixture(scope="module")
def trt(layers):
    try:
        return layers.compiler()
    except MissingError as error:
        pytest.skip(str(error))


@pytest.fixture
def compiled(trt, layers, tmp_path):
    """Lower a file as a variant is, and compile it."""

    def compiled(path, precision, plans=(), target=JETSON):
        out = tmp_path / f"lowered-{precision}"
        out.mkdir()
        lowered = lower(path, target, precision, out)
        variant = Variant(f"tensorrt-{precision}", "tensorrt", precision, {}, {}, tuple(plans))
        return layers.compiled(trt, lowered.files, variant)

    return compiled


def effective(one):
    return [layer.effective for layer in one.layers]


@pytest.mark.parametrize(
    ("fixture", "precision"), [("float_model", "fp32"), ("float_model", "fp16"), ("signed_model", "int8")]
)
def test_every_layer_runs_in_the_precision_that_it_was_meant_for(request, compiled, plans, fixture, precision):
    one = compiled(request.getfixturevalue(fixture), precision, plans(precision))
    assert effective(one) == [precision] * 4
    assert one.engine_bytes > 0


def test_a_build_that_looks_for_sparse_kernels_is_taken(compiled, sparse_model, plans):
    assert effective(compiled(sparse_model, "int8", plans("int8"))) == ["int8"] * 4


def weightless(path):
    """The layer's kernels read INT8 weights: no copy in float was made of them."""
    return [node["weights"][0] for node in path.nodes if node["type"] in ("correlation", "gemm")]


def test_integer_weights_stay_integers(compiled, signed_model, plans):
    assert weightless(compiled(signed_model, "int8", plans("int8"))) == ["int8"] * 4


IMAGES = {
    "lenet5": 2, "cnn": 2, "cnn-fc": 2, "resnet20": 19, "resnet32": 31, "resnet44": 43, "resnet56": 55,
    "resnet18": 20, "resnet50": 53, "mobilenetv2": 52,
}  # fmt: skip
"""How many convolutions each has; all else that has weights is a dense layer."""
TEXTS = {"lstm": {"int8": 2, "int4": 2}, "bilstm": {"int8": 1, "int4": 0}, "bert-mini": {"int8": 26, "int4": 26}}
"""How many layers run in those integers, by variant: tables of embeddings and LSTMs stay float."""
BY_HAND = ("bert-base", "distilbert")
"""They have 10 and 6 times the weights of bert-mini, which takes 45 s of processor time, nearly all of it before the
compiler: `benchmarks/tensorrt_layers.py` builds them, and docs/tensorrt-layers.md tells what came of it."""
PAGE = Path(__file__).parents[3] / "docs" / "tensorrt-layers.md"


@pytest.fixture
def variants(trt, layers, monkeypatch, tmp_path):
    """Every TensorRT variant of a model of the zoo, untrained, on that data set, compiled."""

    def variants(model, data, narrowest):
        monkeypatch.setattr(layers, "DATA", {data: narrowest})
        bundle = layers.bundled(model, "jetson-orin-nano", tmp_path)
        return {one.precision: layers.compiled(trt, bundle.files(one), one) for one in bundle.core.variants}

    return variants


def test_no_model_of_the_zoo_is_left_out():
    assert ZOO.keys() == {*IMAGES, *TEXTS, *BY_HAND}
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in PAGE.read_text("utf-8").splitlines()]
    for model in BY_HAND:
        told = {row[1]: row[3] for row in rows if row[:1] == [model]}
        assert told == {f"tensorrt-{precision}": "none" for precision in ("fp32", "fp16", "int8")}


@pytest.mark.parametrize(("model", "convolutions"), IMAGES.items())
def test_every_convolution_of_a_network_of_the_zoo_is_int8(variants, model, convolutions):
    found = variants(model, "digits", "int8")  # built in
    assert {precision: set(effective(one)) for precision, one in found.items()} == {
        precision: {precision} for precision in ("fp32", "fp16", "int8")
    }
    one = found["int8"]
    assert Counter(layer.op for layer in one.layers)["Conv"] == convolutions
    assert Counter(node["type"] for node in one.nodes if node["inputs"][:1] == ["int8"])["correlation"] == convolutions


@pytest.mark.parametrize(("model", "integers"), TEXTS.items())
def test_what_is_meant_to_be_integers_in_a_network_for_texts_is(variants, shared_data, model, integers):
    found = variants(model, "glue:sst2", "int4")
    assert list(found) == ["fp32", "fp16", "int8", "int4"]
    for one in found.values():
        assert effective(one) == [layer.intended for layer in one.layers]
    assert {precision: effective(found[precision]).count(precision) for precision in integers} == integers


BLOCKS = """<ir_version: 10, opset_import: ["" : 21]>
g (float[batch,{k}] x) => (float[batch,48] y) {{
  [k] k = DequantizeLinear<axis=0, block_size={block}>(w, s)
  [fc] y = MatMul(x, k)
}}"""


@pytest.fixture
def blocks(write_onnx):
    def blocks(k, block):
        path = write_onnx(BLOCKS.format(k=k, block=block), s=np.full((k // block, 48), 0.01, np.float32))
        model = onnx.load(path)
        packed = np.random.default_rng(0).integers(0, 256, k * 48 // 2, np.uint8).tobytes()
        model.graph.initializer.append(onnx.helper.make_tensor("w", onnx.TensorProto.INT4, (k, 48), packed, raw=True))
        onnx.save(model, path)
        return path

    return blocks


@pytest.mark.parametrize(("k", "block", "kernel"), [(256, 128, "int4"), (128, 64, "int4"), (128, 128, "fp32")])
def test_a_product_reads_4_bit_weights_itself_where_there_is_more_than_one_block(compiled, blocks, k, block, kernel):
    """The last is why our blocks are never the whole of a layer's inputs."""
    one = compiled(blocks(k, block), "int4", [LayerPlan("fc", "MatMul", "w", "int4")])
    assert effective(one) == [kernel]


LSTM = """<ir_version: 10, opset_import: ["" : 20]>
g (float[batch,200,16] x) => (float[batch,1,24] y) {
  [turn] t = Transpose<perm=[1,0,2]>(x)
  [lstm] all, h, c = LSTM<hidden_size=24>(t, w, r, b)
  [back] y = Transpose<perm=[1,0,2]>(h)
}"""


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_an_lstm_of_200_steps_is_compiled(compiled, write_onnx, precision):
    random = np.random.default_rng(0)
    shapes = {"w": (1, 96, 16), "r": (1, 96, 24), "b": (1, 192)}
    path = write_onnx(LSTM, **{name: random.normal(0, 0.1, shape).astype(np.float32) for name, shape in shapes.items()})
    assert effective(compiled(path, precision, [LayerPlan("lstm", "LSTM", "w", precision)])) == [precision]


STORED = """<ir_version: 10, opset_import: ["" : OPSET]>
g (float[batch,20,16] x) => (float[batch,1,24] y) {
  [turn] t = Transpose<perm=[1,0,2]>(x)
  [wide] w = DequantizeLinear<axis=1>(wq, ws)
  [again] r = DequantizeLinear<axis=1>(rq, rs)
  [lstm] all, h, c = LSTM<hidden_size=24>(t, w, r, b)
  [back] y = Transpose<perm=[1,0,2]>(h)
}"""


@pytest.mark.parametrize(("kind", "opset", "kernels"), [("INT8", 20, "int8"), ("INT4", 21, "int4")])
def test_an_lstm_takes_weights_that_are_stored_as_integers(compiled, write_onnx, kind, opset, kernels):
    """We do not write such files, whose products stay float, but a user's own may be one."""
    random = np.random.default_rng(0)
    floats = {name: np.full(96, 0.01, np.float32) for name in ("ws", "rs")} | {"b": np.zeros((1, 192), np.float32)}
    path = write_onnx(STORED.replace("OPSET", str(opset)), **floats)
    model, bits = onnx.load(path), 8 if kind == "INT8" else 4
    for name, inputs in {"wq": 16, "rq": 24}.items():
        raw = random.integers(0, 256, 96 * inputs * bits // 8, np.uint8).tobytes()
        dtype = getattr(onnx.TensorProto, kind)
        model.graph.initializer.append(onnx.helper.make_tensor(name, dtype, (1, 96, inputs), raw, raw=True))
    onnx.save(model, path)
    one = compiled(path, kind.lower(), [LayerPlan("lstm", "LSTM", "wq", "fp32")])
    assert effective(one) == ["fp32"]
    read = {layer: node["weights"] for node in one.nodes for layer in node["layers"] if layer in ("wide", "again")}
    assert {layer: kernels in weights for layer, weights in read.items()} == {"wide": True, "again": True}


UNKNOWN = '<ir_version: 10, opset_import: ["" : 20]> g (float[b,1,8,8] x) => (float[b,1,8,8] y) { [odd] y = Oddly(x) }'


def test_what_the_parser_refuses_is_told_with_its_node(trt, write_onnx, signed_model, tmp_path):
    """A file that got past the lint, as one that was altered on its way does."""
    (tmp_path / "out").mkdir()
    files = lower(signed_model, JETSON, "int8", tmp_path / "out").files
    broken = write_onnx(UNKNOWN, "broken.onnx")
    build, log = read_build(files["build"]), Log(trt)
    with pytest.raises(ModelError, match=r"broken\.onnx: TensorRT .* refuses it: .*odd") as raised:
        build_engine(trt, log, broken, build, build.for_batch(1))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("content", [b"", b"not an ONNX file"])
def test_a_file_that_is_none_is_refused_in_one_line(trt, signed_model, tmp_path, content):
    (tmp_path / "out").mkdir()
    files = lower(signed_model, JETSON, "int8", tmp_path / "out").files
    files["model"].write_bytes(content)
    build = read_build(files["build"])
    with pytest.raises(CorruptError, match=r"model\.onnx: not an ONNX file that can be read") as raised:
        build_engine(trt, Log(trt), files["model"], build, build.for_batch(1))
    assert "\n" not in str(raised.value)


def test_external_data_that_is_missing_is_told(trt, float_model, tmp_path):
    (tmp_path / "out").mkdir()
    files = lower(float_model, JETSON, "fp32", tmp_path / "out").files
    model = onnx.load(files["model"])
    onnx.save(model, files["model"], save_as_external_data=True, location="weights.bin", size_threshold=0)
    (files["model"].parent / "weights.bin").unlink()
    build = read_build(files["build"])
    with pytest.raises(ModelError, match=r"model\.onnx: TensorRT .* refuses it: .*weights\.bin"):
        build_engine(trt, Log(trt), files["model"], build, build.for_batch(1))


def test_an_unproven_file_says_so_when_it_is_refused(trt, blocks, tmp_path):
    (tmp_path / "out").mkdir()
    files = lower(blocks(128, 64), JETSON, "int4", tmp_path / "out").files
    build = read_build(files["build"])
    onnx.save(onnx.parser.parse_model(UNKNOWN), files["model"])  # as an old parser sees what it does not know
    with pytest.raises(ModelError, match=r"refuses it \(unproven: INT4 weights need opset 21, and TensorRT 10\.3"):
        build_engine(trt, Log(trt), files["model"], build, build.for_batch(1))
