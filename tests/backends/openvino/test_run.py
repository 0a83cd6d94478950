from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from edgeprune.errors import ConfigError, CorruptError, ModelError

pytest.importorskip("openvino")

from edgeprune.backends.openvino.run import load, write_ir

F32 = {"INFERENCE_PRECISION_HINT": "f32"}


@pytest.mark.parametrize("options", [{}, {**F32, "NUM_STREAMS": "4"}, {**F32, "CACHE_DIR": "elsewhere"}])
def test_the_float_precision_must_be_said_and_nothing_else(float_model, options):
    with pytest.raises(ConfigError, match="INFERENCE_PRECISION_HINT"):
        load({"model": float_model}, options, threads=1, batch=1)


def test_float32_is_pinned_to_rounding_error(float_model, x):
    import onnx.reference

    expected = onnx.reference.ReferenceEvaluator(str(float_model)).run(None, {"x": x})[0]
    with load({"model": float_model}, F32, threads=1, batch=1) as runner:
        np.testing.assert_allclose(runner.infer({"x": x})["y"], expected, atol=1e-5)
        assert runner.evidence()["hint"] == "f32"


def test_an_output_does_not_change_with_the_next_run(float_model, x):
    with load({"model": float_model}, F32, threads=1, batch=1) as runner:
        first = runner.infer({"x": x})["y"]
        kept = first.copy()
        runner.infer({"x": 1 - x})
        np.testing.assert_array_equal(first, kept)


def test_a_large_input_is_read_where_it_lies_and_left_as_it_was(write_onnx):
    text = """<ir_version: 10, opset_import: ["" : 20]>
    g (float[1, 64, 1024] x) => (float[1, 64, 1024] y) { a = Relu(x) y = Exp(a) }"""
    random = np.random.default_rng(0)
    x, other = (random.standard_normal((1, 64, 1024)).astype(np.float32) for _ in range(2))
    locked, strided = x.copy(), np.repeat(x, 2, axis=-1)[..., ::2]
    locked.flags.writeable = False
    kept = x.copy()
    with load({"model": write_onnx(text)}, F32, threads=1, batch=1) as runner:
        for given in (x, locked, other, strided, x, other, locked):
            answer = runner.infer({"x": given})["y"]
            np.testing.assert_allclose(answer, np.exp(np.maximum(given, 0)), rtol=1e-5)
        np.testing.assert_array_equal(x, kept)
        x[:] = 0  # whoever fills the same array anew gets the new answer
        np.testing.assert_allclose(runner.infer({"x": x})["y"], 1)


def test_importing_it_starts_no_other_process_and_reports_to_nobody():
    code = (
        "import sys, threading\n"
        "sys.addaudithook(lambda event, _: sys.exit(event) if event in ('os.fork', 'socket.connect') else None)\n"
        "import edgeprune.backends.openvino.run\n"
        "print(sys.modules['openvino_telemetry'], threading.active_count())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "None 1\n"


def test_a_cut_file_is_corrupt(float_model):
    float_model.write_bytes(float_model.read_bytes()[:1000])
    with pytest.raises(CorruptError, match=r"float\.onnx: not an ONNX file"):
        load({"model": float_model}, F32, threads=1, batch=1)


def test_an_operator_it_does_not_have_is_named(write_onnx):
    text = """<ir_version: 10, opset_import: ["" : 20, "of.mine" : 1]>
    g (float[1] x) => (float[1] y) { [odd] y = of.mine.Frobnicate(x) }"""
    with pytest.raises(ModelError, match=r"of\.mine\.Frobnicate"):
        load({"model": write_onnx(text)}, F32, threads=1, batch=1)


def test_its_own_format_computes_the_same_and_keeps_every_number(float_model, x, tmp_path):
    file, weights = write_ir(float_model, tmp_path)
    with load({"model": float_model}, F32, threads=1, batch=1) as runner:
        expected = runner.infer({"x": x})["y"]
    with load({"model": file}, F32, threads=1, batch=1) as runner:
        np.testing.assert_array_equal(runner.infer({"x": x})["y"], expected)
    assert weights.stat().st_size > 0.9 * float_model.stat().st_size  # half of it in float16


def test_streams_and_threads_are_those_that_were_asked_for(float_model):
    for threads in (1, 2):
        with load({"model": float_model}, F32, threads=threads, batch=1) as runner:
            evidence = runner.evidence()
        assert (evidence["hint"], evidence["streams"], evidence["threads"]) == ("f32", 1, threads)


def test_a_model_that_was_compiled_before_comes_from_the_cache(float_model, x, tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEPRUNE_OPENVINO_CACHE", str(tmp_path / "cache"))
    found = []
    for _ in range(2):
        with load({"model": float_model}, F32, threads=1, batch=1) as runner:
            found.append((runner.evidence(), runner.infer({"x": x})["y"]))
    assert [evidence["loaded_from_cache"] for evidence, _ in found] == [False, True]
    np.testing.assert_array_equal(found[0][1], found[1][1])
    layers = [[(node["type"], node["primitive"]) for node in evidence["nodes"]] for evidence, _ in found]
    assert layers[0] == layers[1]
