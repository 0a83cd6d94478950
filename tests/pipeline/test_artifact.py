import json
from dataclasses import replace

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from edgeprune.cache import StageCache
from edgeprune.data.splits import resolve_splits
from edgeprune.errors import DataError, InputError, ModelError
from edgeprune.pipeline import artifact
from edgeprune.recipe import DataPart, QuantizePart

DENSE = "<float[64, 10] w = {" + ", ".join(str(0.01 * (i % 7)) for i in range(640)) + "}>"


def test_a_graph_of_the_users_is_kept_with_its_facts(job, onnx_file):
    file = onnx_file(
        "(float[n, 1, 8, 8] x) => (float[n, 10] y) " + DENSE + " { flat = Flatten(x) y = MatMul(flat, w) }"
    )
    facts = artifact.read_facts(artifact.adopt(job(), file))
    assert [(spec.name, spec.shape) for spec in facts.inputs] == [("x", ("batch", 1, 8, 8))]
    assert facts.outputs[0].shape[1:] == (10,)
    assert facts.macs == 640


def test_a_batch_of_one_is_freed_where_the_graph_allows_it(job, onnx_file):
    file = onnx_file(
        "(float[1, 1, 8, 8] x) => (float[1, 10] y) " + DENSE + " { flat = Flatten(x) y = MatMul(flat, w) }"
    )
    facts = artifact.read_facts(artifact.adopt(job(), file))
    assert facts.inputs[0].shape == ("batch", 1, 8, 8)


def test_a_batch_that_a_reshape_holds_is_freed(job, onnx_file):
    file = onnx_file(
        "(float[1, 1, 8, 8] x) => (float[1, 10] y) "
        + DENSE.replace(">", ", int64[2] shape = {1, 64}>", 1)
        + " { flat = Reshape(x, shape) y = MatMul(flat, w) }"
    )
    assert artifact.read_facts(artifact.adopt(job(), file)).outputs[0].shape[1:] == (10,)


def test_a_batch_that_is_baked_in_is_refused_with_the_way_out(job, onnx_file):
    file = onnx_file(
        "(float[1, 1, 8, 8] x) => (float[1, 10] y) " + DENSE + " { flat = Flatten(x) turned = Transpose(flat)"
        " product = MatMul(flat, turned) mixed = MatMul(product, flat) y = MatMul(mixed, w) }"
    )
    with pytest.raises(ModelError, match=r"user\.onnx: its batch is baked in.*free first dimension"):
        artifact.adopt(job(), file)


def test_a_graph_that_answers_with_no_number_is_not_taken_for_one_with_a_fixed_batch(job, onnx_file):
    file = onnx_file(
        "(float[n, 1, 8, 8] x) => (float[n, 10] y) "
        + DENSE
        + " { flat = Flatten(x) sums = MatMul(flat, w) zeros = Sub(sums, sums) y = Div(zeros, zeros) }"
    )
    with pytest.raises(ModelError, match=r"user\.onnx: 'y' is NaN or infinite .* check the weights"):
        artifact.adopt(job(), file)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("(float[n, 1, 9, 8] x) => (float[n, 72] y) { y = Flatten(x) }", r"input x .*, but digits gives image float32"),
        (
            "(float[n, 1, 8, 8] x) => (float[n, 64] y) { y = Flatten(x) }",
            r"gives y float32\[batch, 64\], but digits needs an output float32\[batch, 10\] for its 10 classes",
        ),
        (
            "(float[n, 1, 8, 8] a, float[n] b) => (float[n, 64] y) { y = Flatten(a) }",
            "nothing feeds the model's input 'a': there is image",
        ),
        (
            "(float[n, 1, 8, 8] x) => (int64[n] y) { f = Flatten(x) y = ArgMax<axis = 1, keepdims = 0>(f) }",
            "needs an output float32",
        ),
    ],
)
def test_a_graph_that_the_data_cannot_feed_or_the_labels_judge_is_refused(job, onnx_file, body, said):
    with pytest.raises(ModelError, match=said):
        artifact.adopt(job(), onnx_file(body))


def test_a_graph_whose_answers_nobody_judges_may_give_anything(job, onnx_file):
    file = onnx_file("(float[n, 1, 8, 8] x) => (float[n, 64] y, float[n, 1, 8, 8] z) { y = Flatten(x) z = Relu(x) }")
    unjudged = replace(job(), untrained=True)
    facts = artifact.read_facts(artifact.adopt(unjudged, file))
    assert [spec.name for spec in facts.outputs] == ["y", "z"]


@pytest.mark.parametrize(
    ("behind", "threshold"),
    [
        ("s = Sigmoid(g) y = Squeeze(s, one)", 0.5),
        ("y = Sigmoid(g)", 0.5),
        ("s = Sigmoid(g) y = Mul(s, s)", 0.0),
        ("y = Squeeze(g, one)", 0.0),
    ],
)
def test_a_single_score_behind_a_sigmoid_is_a_probability_in_whatever_shape(job, onnx_file, behind, threshold):
    column = "<float[64, 1] w = {" + ", ".join(["0.01"] * 64) + "}, int64[1] one = {1}>"
    shape = "float[n]" if "Squeeze" in behind else "float[n, 1]"
    body = f"(float[n, 1, 8, 8] x) => ({shape} y) {column} {{ f = Flatten(x) g = MatMul(f, w) {behind} }}"
    assert artifact.read_facts(artifact.adopt(replace(job(), untrained=True), onnx_file(body))).threshold == threshold


def test_weights_beside_the_file_decide_what_is_adopted(job, onnx_file):
    file = onnx_file(
        "(float[n, 1, 8, 8] x) => (float[n, 10] y) " + DENSE + " { flat = Flatten(x) y = MatMul(flat, w) }"
    )
    model = onnx.load(file)
    weight = model.graph.initializer[0]
    weight.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight), weight.name))
    onnx.save(model, file, save_as_external_data=True, location="weights.bin", size_threshold=0)
    before = artifact.adopt(job(), file)
    weights = file.with_name("weights.bin")
    weights.write_bytes(bytes(weights.stat().st_size))
    assert artifact.adopt(job(), file).key != before.key


def test_tokens_go_into_a_graph_that_calls_them_otherwise(job, onnx_file, tmp_path):
    (tmp_path / "texts").mkdir()
    texts = {"text": [" ".join(f"{row:06b}").translate({48: "a", 49: "b"}) for row in range(40)]}
    texts["label"] = [row % 2 for row in range(40)]
    pq.write_table(pa.table(texts), tmp_path / "texts" / "train.parquet")
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"abcd"]) + "\n")
    part = DataPart(
        name=str(tmp_path / "texts"), vocabulary=tmp_path / "vocab.txt", length=6, inputs=("ids:int64[batch,6]",)
    )
    reading = replace(job(data=part), splits=resolve_splits(part, trains=False))
    table = "<float[8, 2] w = {" + ", ".join(map(str, range(16))) + "}, int64[1] first = {1}>"
    body = "{ all = Gather(w, ids) y = ReduceMean<keepdims = 0>(all, first) }"
    facts = artifact.read_facts(
        artifact.adopt(reading, onnx_file(f"(int64[n, m] ids) => (float[n, 2] y) {table} {body}"))
    )
    assert [(spec.name, spec.shape) for spec in facts.inputs] == [("ids", ("batch", 6))]
    with pytest.raises(ModelError, match="nothing feeds the model's input 'ids': there is input_ids, attention_mask"):
        artifact.adopt(reading, onnx_file(f"(int64[n, m] ids, int64[n, m] kinds) => (float[n, 2] y) {table} {body}"))


def test_a_graph_that_is_not_there_is_one_line(job, tmp_path):
    with pytest.raises(InputError, match="no such model file"):
        artifact.adopt(job(), tmp_path / "none.onnx")


def test_ranges_come_from_the_calibration_rows_alone(job, onnx_file):
    file = onnx_file(
        "(float[n, 1, 8, 8] x) => (float[n, 10] y) " + DENSE + " { flat = Flatten(x) y = MatMul(flat, w) }"
    )
    one = job()
    found = artifact.read_ranges(artifact.ranges(one, artifact.adopt(one, file)))
    (pixels,) = one.splits.preprocess(one.splits.samples("calibrate").columns).values()
    assert found["x"].low == pytest.approx(np.min(pixels))
    assert found["x"].high == pytest.approx(np.max(pixels))


def with_noise(one):
    """The job, its images replaced by noise."""
    pixels = one.splits.samples("calibrate")
    noise = np.random.default_rng(0).integers(0, 17, pixels.columns["image"].shape, np.uint8)
    samples = replace(pixels, columns={"image": noise})

    class Noise(type(one.splits)):
        def batches(self, split, size=256):
            yield from (samples.part(slice(start, start + size)) for start in range(0, len(samples), size))

    return replace(one, splits=Noise(**vars(one.splits)))


def test_noise_is_refused_except_where_only_speed_counts(job, onnx_file):
    file = onnx_file(
        "(float[n, 1, 8, 8] x) => (float[n, 10] y) " + DENSE + " { flat = Flatten(x) y = MatMul(flat, w) }"
    )
    noisy = with_noise(job())
    with pytest.raises(DataError, match="digits: the calibration images are noise"):
        artifact.ranges(noisy, artifact.adopt(noisy, file))
    unjudged = replace(noisy, untrained=True)
    assert artifact.read_ranges(artifact.ranges(unjudged, artifact.adopt(unjudged, file)))["x"].low < 0


def test_the_recipe_names_the_observer_before_the_calibration_set_does(job):
    one = job()
    assert one.observer == one.splits.observer == "minmax"
    asked = replace(one, splits=replace(one.splits, observer="mse"))
    assert asked.observer == "mse"
    assert replace(asked, recipe=job(quantize=QuantizePart(observer="entropy")).recipe).observer == "entropy"


def test_how_ranges_were_taken_is_recorded(job, onnx_file):
    file = onnx_file(
        "(float[n, 1, 8, 8] x) => (float[n, 10] y) " + DENSE + " { flat = Flatten(x) y = MatMul(flat, w) }"
    )
    one = job(quantize=QuantizePart(observer="percentile"))
    stage = artifact.ranges(one, artifact.adopt(one, file), lambda: 0.05)
    assert json.loads((stage.folder / artifact.CALIBRATION).read_bytes()) == {
        "observer": "percentile",
        "mismatch": 0.05,
    }
    assert sorted(path.name for path in stage.folder.iterdir()) == ["calibration.json", "ranges.json", "stage.json"]


def test_ranges_go_on_where_they_were_broken_off(job, onnx_file, tmp_path):
    file = onnx_file(
        "(float[n, 1, 8, 8] x) => (float[n, 10] y) " + DENSE + " { flat = Flatten(x) y = MatMul(flat, w) }"
    )
    one = job()
    looked_at = []

    class Watched(type(one.splits)):
        def batches(self, split, size=256):
            for part in super().batches(split, size):
                looked_at.append(len(part))
                yield part
            if size == 32 and len(looked_at) < 10:
                raise InterruptedError  # with all 8 batches seen, and saved

    watched = replace(one, splits=Watched(**vars(one.splits)))
    exported = artifact.adopt(one, file)
    with pytest.raises(InterruptedError):
        artifact.ranges(watched, exported)
    (left,) = (tmp_path / "cache" / "calibrate").glob("*.partial")
    assert [path.name for path in left.iterdir()] == ["checkpoint.npz"]
    looked_at += [0] * 10
    stage = artifact.ranges(watched, exported)
    assert [path.name for path in stage.folder.glob("*.npz")] == []
    again = replace(one, cache=StageCache(tmp_path / "other"))
    assert artifact.read_ranges(stage) == artifact.read_ranges(artifact.ranges(again, artifact.adopt(again, file)))
