from __future__ import annotations

import numpy as np
import pytest

from edgeprune.backends.ort import run
from edgeprune.backends.ort.run import load
from edgeprune.errors import ConfigError, CorruptError, DataError, MissingError, ModelError


def names(runner):
    return [node["name"] for node in runner.evidence()["nodes"]]


def test_without_optimization_the_nodes_of_the_file_are_what_runs(float_model):
    with load({"model": float_model}, {"graph_optimization": "disable"}, threads=1, batch=1) as runner:
        assert names(runner) == ["conv1", "relu1", "conv2", "relu2", "pool", "flat", "fc1", "relu3", "fc2"]


def test_optimization_fuses_activations_away(float_model):
    with load({"model": float_model}, {}, threads=1, batch=1) as runner:
        assert not {"relu1", "relu2", "relu3"} & set(names(runner))


def test_the_profile_leaves_no_file_behind(float_model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = set(tmp_path.iterdir())
    with load({"model": float_model}, {}, threads=1, batch=1) as runner:
        runner.evidence()
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize("shape", ["batch,3", "samples,3", "?,3"])
def test_a_batch_of_any_name_or_none_is_fixed(write_onnx, shape):
    path = write_onnx(f"g (float[{shape}] x) => (float[{shape}] y) {{ [relu] y = Relu(x) }}")
    with load({"model": path}, {}, threads=1, batch=3) as runner:
        assert runner.inputs[0].shape == (3, 3)
        assert runner.infer({"x": np.ones((3, 3), np.float32)})["y"].shape == (3, 3)


def test_a_name_that_stands_behind_the_first_dimension_too_fixes_only_the_first(write_onnx):
    path = write_onnx("g (float[n,n] x) => (float[n,n] y) { [relu] y = Relu(x) }")
    with load({"model": path}, {}, threads=1, batch=3) as runner:
        assert runner.infer({"x": np.ones((3, 5), np.float32)})["y"].shape == (3, 5)


def test_evidence_of_free_dimensions_is_taken_at_the_sizes_of_the_last_inference(write_onnx):
    path = write_onnx(
        "g (float[n,k] x) => (float[n,m] y) { [product] y = MatMul(x, w) }", w=np.ones((7, 2), np.float32)
    )
    with load({"model": path}, {}, threads=1, batch=3) as runner:
        runner.infer({"x": np.ones((3, 7), np.float32)})  # of any other length the product does not exist
        assert names(runner) == ["product"]


def test_text_cannot_be_given(write_onnx):
    path = write_onnx("g (string[n] x) => (string[n] y) { [same] y = Identity(x) }")
    with pytest.raises(ModelError, match=r"input 'x' is tensor\(string\): only tensors of numbers"):
        load({"model": path}, {}, threads=1, batch=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"optimize": "all"}, "unknown options"), ({"graph_optimization": "some"}, "known: all, disable")],
)
def test_an_option_it_does_not_know_is_refused(float_model, options, message):
    with pytest.raises(ConfigError, match=message):
        load({"model": float_model}, options, threads=1, batch=1)


def test_a_cut_file_is_corrupt(float_model):
    float_model.write_bytes(float_model.read_bytes()[:1000])
    with pytest.raises(CorruptError, match=r"float\.onnx: not an ONNX file"):
        load({"model": float_model}, {}, threads=1, batch=1)


def test_a_failure_in_the_middle_of_a_run_is_told_as_one_line(write_onnx):
    text = "g (float[2] x, int64[1] shape) => (float[n] y) { [reshape] y = Reshape(x, shape) }"
    with (
        load({"model": write_onnx(text)}, {}, threads=1, batch=1) as runner,
        pytest.raises(ModelError, match="refuses it") as raised,
    ):
        runner.infer({"x": np.ones(2, np.float32), "shape": np.array([3])})
    assert "\n" not in str(raised.value)


def test_inputs_are_never_converted_silently(float_model, x):
    with load({"model": float_model}, {}, threads=1, batch=1) as runner, pytest.raises(DataError, match="float64"):
        runner.infer({"x": x.astype(np.float64)})


def test_another_provider_than_the_one_asked_for_is_refused(float_model, monkeypatch):
    """ONNX Runtime itself warns and takes the processor."""
    monkeypatch.setattr(run, "PROVIDER", "CUDAExecutionProvider")
    with pytest.raises(MissingError, match="has no CUDAExecutionProvider"):
        load({"model": float_model}, {}, threads=1, batch=1)


def test_every_node_says_which_provider_ran_it(float_model):
    with load({"model": float_model}, {}, threads=1, batch=1) as runner:
        evidence = runner.evidence()
    assert evidence["provider"] == "CPUExecutionProvider"
    assert {node["provider"] for node in evidence["nodes"]} == {"CPUExecutionProvider"}
