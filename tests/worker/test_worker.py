from __future__ import annotations

import io
import json
import os
import select
import signal
import subprocess
import sys

import numpy as np
import onnx
import onnx.parser
import pytest

from edgeprune.worker.worker import COMMANDS, Worker, serve

WEIGHT = np.vstack([np.eye(3), np.ones(3)]).astype(np.float32)


@pytest.fixture
def ask(folder):
    worker = Worker()

    def ask(command, **fields):
        return worker.answer(json.dumps({"command": command, **fields}))

    return ask


@pytest.fixture
def opened(ask, folder):
    def opened(batch=1):
        files = {"model": str(folder / "model.onnx")}
        answer = ask("open", backend="ort", files=files, options={}, threads=1, batch=batch)
        assert answer["ok"], answer
        return ask

    return opened


def test_opening_tells_how_long_loading_took(opened, ask, folder):
    answer = ask("open", backend="ort", files={"model": str(folder / "model.onnx")}, options={})
    assert answer["ok"]
    assert 0 < answer["load_ms"] < 60_000
    assert answer["compilation"] is None


def test_what_is_compiled_is_told_apart_and_whether_it_was_found(ask, folder, tmp_path, monkeypatch):
    pytest.importorskip("openvino")
    monkeypatch.setenv("EDGEPRUNE_OPENVINO_CACHE", str(tmp_path / "compiled"))
    files, options = {"model": str(folder / "model.onnx")}, {"INFERENCE_PRECISION_HINT": "f32"}
    first, second = (ask("open", backend="openvino", files=files, options=options) for _ in range(2))
    assert 0 < first["load_ms"] < 60_000
    assert first["compilation"]["ms"] > 0
    assert (first["compilation"]["cached"], second["compilation"]["cached"]) == (False, True)


@pytest.mark.parametrize("permitted", [True, False])
def test_opening_tells_whether_the_peak_of_memory_starts_there(folder, tmp_path, permitted):
    proc = tmp_path / "proc"
    (proc if permitted else proc / "clear_refs").mkdir(parents=True)  # a folder cannot be written to
    (proc / "status").write_text("VmHWM:\t3 kB\nVmRSS:\t1 kB\n")
    worker = Worker(proc)
    files = {"model": str(folder / "model.onnx")}
    answer = worker.answer(json.dumps({"command": "open", "backend": "ort", "files": files, "options": {}}))
    assert answer["mark_lowered"] is permitted
    assert worker.memory() == {"peak_bytes": 2048, "import_bytes": 1024, "device_bytes": None}


@pytest.mark.parametrize("batch", [1, 2, 5, 7])
def test_predictions_come_in_order_whatever_the_batch(opened, folder, batch):
    answer = opened(batch)("predict", inputs=str(folder / "inputs.npz"), out=str(folder / "out.npz"))
    assert answer == {"ok": True, "samples": 5}
    expected = np.arange(20, dtype=np.float32).reshape(5, 4) @ WEIGHT
    np.testing.assert_allclose(np.load(folder / "out.npz")["y"], expected)


def test_timing_gives_samples_and_the_processor_time_behind_them(opened, folder):
    ask = opened()
    warm = ask("warm", inputs=str(folder / "inputs.npz"), min_s=0.01, max_s=1)
    assert warm["first_inference_ms"] > 0
    assert warm["runs"] >= 10
    timed = ask("time", seconds=0.01, least=3, most=20)
    assert len(timed["samples_ms"]) == 20
    assert timed["wall_s"] >= 0.01
    assert timed["cpu_s"] <= timed["wall_s"] * 1.5


def test_a_scenario_is_asked_for_by_loadgen(opened, folder):
    pytest.importorskip("mlperf_loadgen", reason="LoadGen has no wheel here")
    ask = opened(2)
    ask("warm", inputs=str(folder / "inputs.npz"), min_s=0.01, max_s=1)
    scenario = {"name": "multi-stream", "driver": "LoadGen", "samples_per_query": 4, "batch": 2}
    answer = ask("drive", scenario=scenario, seconds=0.05, queries=70)
    assert answer["ok"], answer
    assert len(answer["latencies_ms"]) >= 70
    assert answer["samples_per_s"] > 0
    refused = ask("drive", scenario=scenario | {"batch": 4}, seconds=0.05, queries=70)
    assert "takes 2 samples at a time, 4 are asked for" in refused["message"]


def test_memory_is_that_since_the_runtime_was_imported(opened):
    answer = opened()("memory")
    assert answer["import_bytes"] > 10_000_000
    assert 0 <= answer["peak_bytes"] < 1_000_000_000


def test_evidence_names_what_ran(opened):
    assert [node["op"] for node in opened()("evidence")["evidence"]["nodes"]] == ["MatMul"]


def test_a_profile_is_taken_on_the_samples_that_were_warmed_up_with(opened, folder):
    ask = opened()
    ask("warm", inputs=str(folder / "inputs.npz"), min_s=0, max_s=0.01)
    (node,) = ask("profile", seconds=0.01)["evidence"]["nodes"]
    assert node["op"] == "MatMul"
    assert node["us"] > 0


def test_energy_without_a_sensor_has_a_reason(opened):
    energy = opened()("energy", meters=[], seconds=0.1)["energy"]
    assert energy == {"joules": None, "sensor": None, "reason": "the target file names no meter"}


@pytest.mark.parametrize("command", ["warm", "time", "predict", "evidence", "profile"])
def test_nothing_runs_before_something_is_open(ask, folder, command):
    fields = {
        "warm": {"inputs": str(folder / "inputs.npz"), "min_s": 0, "max_s": 0},
        "time": {"seconds": 0, "least": 1, "most": 1},
        "profile": {"seconds": 0},
        "predict": {"inputs": str(folder / "inputs.npz"), "out": str(folder / "out.npz")},
    }
    answer = ask(command, **fields.get(command, {}))
    assert not answer["ok"]
    assert answer["error"] == "InputError"
    assert "send `open` first" in answer["message"]


def test_after_close_nothing_is_open(opened):
    ask = opened()
    assert ask("close") == {"ok": True}
    assert not ask("evidence")["ok"]


def test_inputs_that_do_not_fit_are_told_by_name(opened, folder):
    np.savez(folder / "wrong.npz", x=np.zeros((2, 5), np.float32))
    answer = opened()("predict", inputs=str(folder / "wrong.npz"), out=str(folder / "out.npz"))
    assert (answer["error"], "[1, 5]" in answer["message"]) == ("DataError", True)


@pytest.mark.parametrize(("off", "least", "most"), [(0.0, 120, 300), (0.1, 20, 60), (1e9, -0.1, 0.1)])
def test_a_check_says_how_far_answers_are_from_those_in_the_file(opened, folder, off, least, most):
    x = np.arange(20, dtype=np.float32).reshape(5, 4)
    np.savez(folder / "samples.npz", x=x, y=x @ WEIGHT + np.float64(off))
    answer = opened()("check", samples=str(folder / "samples.npz"), out=str(folder / "check" / "a.npz"))
    assert answer["finite"] is True
    assert least <= answer["snr_db"]["y"] <= most
    np.testing.assert_allclose(np.load(folder / "check" / "a.npz")["y"], x @ WEIGHT)


def test_a_check_against_other_shapes_fails(opened, folder):
    np.savez(folder / "samples.npz", x=np.ones((5, 4), np.float32), y=np.ones((5, 7)))
    answer = opened()("check", samples=str(folder / "samples.npz"), out=str(folder / "a.npz"))
    assert answer["snr_db"] == {"y": -300.0}


@pytest.fixture
def opened_text(ask, tmp_path):
    """A worker that has a graph open which was given in ONNX's text form."""

    def opened_text(text, batch=1):
        proto = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 20]> g {text}')
        onnx.save(proto, tmp_path / "text.onnx")
        files = {"model": str(tmp_path / "text.onnx")}
        assert ask("open", backend="ort", files=files, options={}, threads=1, batch=batch)["ok"]
        return ask

    return opened_text


def predicted(ask, folder, **arrays):
    np.savez(folder / "in.npz", **arrays)
    return ask("predict", inputs=str(folder / "in.npz"), out=str(folder / "out.npz"))


@pytest.mark.parametrize("batch", [1, 2, 5])
@pytest.mark.parametrize("limit", ["float limit", "float[1] limit"])
def test_an_input_that_is_not_batched_goes_into_every_batch(opened_text, folder, batch, limit):
    ask = opened_text(f"({limit}, float[batch, k] x) => (float[batch, k] y) {{ [min] y = Min(x, limit) }}", batch)
    x = np.arange(15, dtype=np.float32).reshape(5, 3)
    bound = np.full([1] * ("1" in limit), 7, np.float32)
    answer = predicted(ask, folder, x=x, limit=bound)
    assert answer == {"ok": True, "samples": 5}
    np.testing.assert_array_equal(np.load(folder / "out.npz")["y"], np.minimum(x, 7))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("(float[n, k] x) => (float y) { [sum] y = ReduceSum<keepdims=0>(x) }", "'y' is [] for 1 samples"),
        ("(float[n, k] x) => (float[k, n] y) { [turn] y = Transpose(x) }", "'y' is [3, 1] for 1 samples"),
        ("(float[n, k] x) => (int64[m, n] y) { [at] z = NonZero(x) [turn] y = Transpose(z) }", "'y' is [3, 2] for 1"),
    ],
)
def test_an_output_that_does_not_lead_with_the_batch_is_refused(opened_text, folder, text, said):
    answer = predicted(opened_text(text), folder, x=np.ones((2, 3), np.float32))
    assert (answer["error"], said in answer["message"]) == ("ModelError", True), answer


def test_a_model_without_any_batch_is_refused(opened_text, folder):
    answer = predicted(opened_text("(float x) => (float y) { [relu] y = Relu(x) }"), folder, x=np.float32(1))
    assert (answer["error"], "leads with the batch" in answer["message"]) == ("ModelError", True)


@pytest.mark.parametrize("arrays", [{"x": np.zeros((0, 4))}, {"x": np.zeros((2, 4)), "z": np.zeros((3, 4))}])
def test_inputs_of_no_or_different_numbers_of_samples_are_refused(opened, folder, arrays):
    np.savez(folder / "wrong.npz", **arrays)
    answer = opened()("predict", inputs=str(folder / "wrong.npz"), out=str(folder / "out.npz"))
    assert answer["error"] == "DataError"


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ('{"command": "opne"}', "UnknownNameError"),
        ('{"command": "open", "backend": "orrt", "files": {}, "options": {}}', "UnknownNameError"),
        ("no JSON", "JSONDecodeError"),
        ("[]", "TypeError"),
        ('{"command": "time"}', "TypeError"),
        ('{"command": "predict", "inputs": "nowhere.npz", "out": "o"}', "InputError"),
    ],
)
def test_whatever_goes_wrong_is_an_answer_and_the_next_command_works(line, error):
    answers = io.StringIO()
    serve(io.StringIO(line + '\n{"command": "probe"}\n{"command": "quit"}\n{"command": "probe"}\n'), answers)
    first, second, *rest = [json.loads(answer) for answer in answers.getvalue().splitlines()]
    assert (first["ok"], first["error"]) == (False, error)
    assert second["environment"]["cores"] >= 1
    assert rest == [{"ok": True}]  # of quit, and nothing after it


def test_every_command_says_what_it_does():
    assert all(command.__doc__ for command in COMMANDS.values())


def start():
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-m", "edgeprune.worker"], stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def test_it_ends_when_its_input_is_closed():
    process = start()
    out, err = process.communicate("", timeout=30)
    assert (process.returncode, out, err) == (0, "", "")


def test_what_a_runtime_prints_cannot_pass_for_an_answer():
    """File descriptor 1 is stderr in the worker, for C++ as for Python."""
    code = """
import os, sys
from edgeprune.worker import worker
def chatter(self):
    os.write(1, b"from C++\\n")
    print("from Python", flush=True)
    return {}
worker.COMMANDS["chatter"] = chatter
worker.main()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    out, err = process.communicate('{"command": "chatter"}\n', timeout=30)
    assert out == '{"ok": true}\n'
    assert err == "from C++\nfrom Python\n"


def test_it_dies_with_whoever_started_it():
    """The parent is killed without a chance to say goodbye; its end of the pipe closes."""
    code = (
        "import subprocess, sys, time\n"
        "p = subprocess.Popen([sys.executable, '-m', 'edgeprune.worker'], stdin=subprocess.PIPE)\n"
        "print(p.pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    worker = os.pidfd_open(int(parent.stdout.readline()))
    parent.send_signal(signal.SIGKILL)
    parent.communicate()
    assert select.select([worker], [], [], 30)[0], "the worker outlived its parent"
    os.close(worker)
