from dataclasses import replace

import numpy as np
import pytest

from edgeprune.errors import InputError, ModelError
from edgeprune.pipeline import artifact

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


def test_a_single_score_behind_a_sigmoid_is_a_probability(job, onnx_file):
    body = "(float[n, 1, 8, 8] x) => (float[n, 64] y) { f = Flatten(x) y = Sigmoid(f) }"
    assert artifact.read_facts(artifact.adopt(replace(job(), untrained=True), onnx_file(body))).threshold == 0.5
    body = "(float[n, 1, 8, 8] x) => (float[n, 64] y) { y = Flatten(x) }"
    assert artifact.read_facts(artifact.adopt(replace(job(), untrained=True), onnx_file(body))).threshold == 0


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
