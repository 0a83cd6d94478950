"""Faults planted into files of real bundles, each of which runs without a word."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgeprune.bundle import Bundle, open_bundle, seal
from edgeprune.cache import StageCache
from edgeprune.choose import verdict
from edgeprune.interleaved.settings import Settings
from edgeprune.pipeline.measure import evaluation, first_of, measure_bundle, same_splits
from edgeprune.pipeline.parity import QUANTIZED_FILE_DB, QUANTIZED_RUNTIME_DB, RUNTIME_DB, SAMPLES, with_parity
from edgeprune.pipeline.places import located_data
from edgeprune.recipe import Budgets, read_yaml
from edgeprune.results import Parity, read_measured
from edgeprune.targets.target import Target

Alter = Callable[[onnx.ModelProto], None]


def altered(source: Path, out: Path, variant: str, alter: Alter) -> Bundle:
    """A copy of a bundle with another file in one variant, sealed as if it had been made so."""
    shutil.copytree(source, out)
    bundle = open_bundle(out)
    path = bundle.files(bundle.variant(variant))["model"]
    model = onnx.load(path)
    alter(model)
    onnx.save(model, path)
    fields = {name: getattr(bundle.core, name) for name in bundle.core.__dataclass_fields__ if name != "sha256"}
    return seal(out, fields)


def held(bundle: Bundle) -> dict[str, Parity]:
    """By variant, what the gate says."""
    measured = read_measured(bundle.measured_path)
    splits = same_splits(bundle, located_data(bundle))
    split = evaluation(bundle, first_of(splits, "select", SAMPLES), "select")
    target = read_yaml(bundle.root / "target.yaml", Target)
    found = with_parity((measured.baseline, *measured.measurements), bundle, target, split)
    assert all(one.parity is not None for one in found), [one.warnings for one in found]
    return {one.variant: one.parity for one in found if one.parity is not None}


def change(model: onnx.ModelProto, name: str, to: Callable[[np.ndarray], np.ndarray]) -> None:
    (tensor,) = (one for one in model.graph.initializer if one.name == name)
    tensor.CopyFrom(numpy_helper.from_array(to(numpy_helper.to_array(tensor)), name))


def names(model: onnx.ModelProto, ending: str) -> list[str]:
    return [one.name for one in model.graph.initializer if one.name.endswith(ending)]


def layer_of(model: onnx.ModelProto, initializer: str) -> str:
    """The layer that a constant reaches through its DQ."""
    (dequantize,) = (node for node in model.graph.node if initializer in node.input)
    return next(node.name for node in model.graph.node if dequantize.output[0] in node.input)


def last_gemm_bias(model: onnx.ModelProto) -> str:
    gemm = next(node for node in reversed(model.graph.node) if node.op_type == "Gemm")
    return f"{gemm.name}/bias"


def test_what_was_compiled_holds_in_every_runtime(bundles):
    for name, runtimes in {"cpu": {"ort-fp32", "ort-int8"}, "jetson": set()}.items():
        measured = read_measured(bundles[name] / "measured.json")
        for record in measured.measurements:
            found = record.parity
            assert found is not None
            assert (found.samples, found.fault, found.metric) == (SAMPLES, "", "top1")
            least = RUNTIME_DB["fp32"] if record.precision == "fp32" else QUANTIZED_FILE_DB
            assert all(one.snr_db > least for one in found.file)
            assert len(found.file) == 1
            if record.variant in runtimes:
                assert all(one.snr_db > QUANTIZED_RUNTIME_DB for one in found.runtime)
                assert found.runtime_score is not None
            else:
                assert (found.runtime, found.runtime_score) == ((), None)
        unpruned = measured.baseline.parity  # another network than the variants'
        assert unpruned is not None
        assert (unpruned.file, unpruned.fault, len(unpruned.runtime)) == ((), "", 1)


def test_a_bias_in_other_steps_than_its_scale_says_is_caught_in_the_runtime(bundles, tmp_path):
    """The file's meaning stays; ONNX Runtime takes input x weight for the scale of a Gemm's bias, whatever it is."""
    where = []

    def alter(model: onnx.ModelProto) -> None:
        bias = last_gemm_bias(model)
        where.append(layer_of(model, bias))
        change(model, bias, lambda integers: (integers * 64).astype(np.int32))
        change(model, f"{bias}/scale", lambda scale: (scale / 64).astype(np.float32))

    found = held(altered(bundles["cpu"], tmp_path / "b", "ort-int8", alter))
    fault = found["ort-int8"].fault
    assert fault.startswith("ort computes something else than its file says")
    assert f"layer '{where[0]}' departs first" in fault
    assert (found["ort-fp32"].fault, found["baseline"].fault) == ("", "")


def test_a_wrong_bias_scale_is_caught_in_the_file(bundles, tmp_path):
    where = []

    def alter(model: onnx.ModelProto) -> None:
        bias = names(model, "/bias")[1]
        where.append(layer_of(model, bias))
        change(model, f"{bias}/scale", lambda scale: (scale * 64).astype(np.float32))

    fault = held(altered(bundles["cpu"], tmp_path / "b", "ort-int8", alter))["ort-int8"].fault
    assert fault.startswith("its file says something else than the float graph")
    assert f"layer '{where[0]}' departs first" in fault


@pytest.mark.parametrize("variant", ["ort-int8", "ort-fp32"])
def test_two_swapped_channels_are_caught(bundles, tmp_path, variant):
    where = []

    def alter(model: onnx.ModelProto) -> None:
        node = [node for node in model.graph.node if node.op_type == "Conv"][1]
        where.append(node.name)
        source = next((one.input[0] for one in model.graph.node if node.input[1] in one.output), node.input[1])

        def swap(weight: np.ndarray) -> np.ndarray:
            first, second = np.argsort([np.abs(one.astype(float)).sum() for one in weight])[-2:]
            swapped = weight.copy()
            swapped[[first, second]] = weight[[second, first]]
            return swapped

        change(model, source, swap)

    found = held(altered(bundles["cpu"], tmp_path / "b", variant, alter))
    if variant == "ort-int8":
        assert found[variant].fault.startswith("its file says something else than the float graph")
        assert f"layer '{where[0]}' departs first" in found[variant].fault
    else:  # then it is the float graph that is wrong, from which the others depart
        assert found["ort-int8"].fault


def test_an_unsigned_zero_point_in_the_middle_is_caught(bundles, tmp_path):
    """As if the scale of a range that is symmetric had been taken for one that begins at zero."""
    where = []

    def alter(model: onnx.ModelProto) -> None:
        conv = next(node for node in model.graph.node if node.op_type == "Conv")
        where.append(conv.name)
        quantize = next(
            node for node in model.graph.node
            if node.op_type == "QuantizeLinear" and node.input[0] not in {one.name for one in model.graph.input}
        )  # fmt: skip
        change(model, quantize.input[2], lambda zero: (zero + 160).astype(np.uint8))

    fault = held(altered(bundles["cpu"], tmp_path / "b", "ort-int8", alter))["ort-int8"].fault
    assert f"layer '{where[0]}' departs first" in fault


def test_an_unsigned_zero_point_for_a_runtime_that_is_not_here_is_caught_by_its_rules(bundles, tmp_path):
    where = []

    def alter(model: onnx.ModelProto) -> None:
        quantize = next(node for node in model.graph.node if node.op_type == "QuantizeLinear")
        where.append(quantize.name)
        change(model, quantize.input[2], lambda zero: zero.astype(np.uint8))
        del model.graph.value_info[:]  # the types are another now

    fault = held(altered(bundles["jetson"], tmp_path / "b", "tensorrt-int8", alter))["tensorrt-int8"].fault
    assert "UINT8 is read as INT8 without an error" in fault
    assert where[0] in fault


def test_a_variant_that_departs_is_no_default_and_ends_the_command_with_3(bundles, tmp_path):
    def alter(model: onnx.ModelProto) -> None:
        change(model, f"{names(model, '/bias')[0]}/scale", lambda scale: (scale * 64).astype(np.float32))

    bundle = altered(bundles["cpu"], tmp_path / "b", "ort-int8", alter)
    quick = Settings(restarts=1, seconds=0.02, rounds=2, warm_min_s=0, warm_max_s=0.1, energy_s=0)
    measured = measure_bundle(bundle, cache=StageCache(tmp_path / "cache"), settings=quick)
    assert measured.default == "ort-fp32"
    error = verdict(measured, Budgets(max_drop=100.0), "int8", allow_fallback=True)
    assert error is not None
    assert error.exit_code == 3
    assert str(error).startswith("ort-int8: its file says something else than the float graph: layer '")
    assert "departs first" in (bundle.root / "report.html").read_text()
    assert read_measured(bundle.measured_path) == measured
