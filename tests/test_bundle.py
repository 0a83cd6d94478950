import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeprune.bundle import Bundle, LayerPlan, Task, Variant, open_bundle, seal
from edgeprune.errors import CorruptError, InputError, UnknownNameError
from edgeprune.tensor import TensorSpec


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    (tmp_path / "variants" / "ort-int8").mkdir(parents=True)
    (tmp_path / "variants" / "ort-int8" / "model.onnx").write_bytes(b"graph")
    variant = Variant("ort-int8", "ort", "int8", {"model": "variants/ort-int8/model.onnx"}, {}, ())
    return seal(
        tmp_path,
        {
            "model": "cnn",
            "target": "cpu",
            "inputs": (TensorSpec("x", "float32", ("batch", 1, 8, 8)),),
            "outputs": (TensorSpec("y", "float32", ("batch", 10)),),
            "task": Task("classification", ("top1",)),
            "untrained": False,
            "baseline": variant,
            "variants": (variant,),
            "splits": {},
            "budgets": {},
            "pruning": {},
            "assumptions": {},
            "versions": {},
            "seed": 0,
            "command": "edgeprune compile",
            "recipe": {},
        },
    )


def test_a_bundle_reads_back_as_it_was_sealed(bundle: Bundle):
    again = open_bundle(bundle.root)
    assert again == bundle
    assert again.core.inputs[0].shape == ("batch", 1, 8, 8)
    assert again.size_bytes(again.variant("ort-int8")) == 5


def test_equal_content_gives_an_equal_hash_and_other_content_another(bundle: Bundle):
    fields = {name: getattr(bundle.core, name) for name in bundle.core.__dataclass_fields__ if name != "sha256"}
    assert seal(bundle.root, fields).sha256 == bundle.sha256
    assert seal(bundle.root, fields | {"seed": 1}).sha256 != bundle.sha256


def test_measurements_lie_outside_the_hashed_core(bundle: Bundle):
    bundle.measured_path.write_text("{}")
    assert open_bundle(bundle.root).sha256 == bundle.sha256


def test_an_altered_file_is_named(bundle: Bundle):
    (bundle.root / "variants/ort-int8/model.onnx").write_bytes(b"grapH")
    with pytest.raises(CorruptError, match=r"model\.onnx: not the file that was bundled"):
        open_bundle(bundle.root)


def test_a_missing_file_is_named(bundle: Bundle):
    (bundle.root / "variants/ort-int8/model.onnx").unlink()
    with pytest.raises(CorruptError, match=r"model\.onnx: missing"):
        open_bundle(bundle.root)


@pytest.mark.parametrize("escape", ["../outside", "/etc/hostname", "variants/../../outside"])
def test_a_path_out_of_the_bundle_is_refused(bundle: Bundle, escape: str):
    text = (bundle.root / "bundle.json").read_text()
    (bundle.root / "bundle.json").write_text(text.replace("variants/ort-int8/model.onnx", escape))
    with pytest.raises(CorruptError, match="points outside the bundle"):
        open_bundle(bundle.root)


@pytest.mark.parametrize(("field", "name"), [("target", "cpu"), ("name", "ort-int8")])
def test_a_name_that_would_lead_results_elsewhere_is_refused(bundle: Bundle, field: str, name: str):
    text = (bundle.root / "bundle.json").read_text()
    assert f'"{field}": "{name}"' in text
    (bundle.root / "bundle.json").write_text(text.replace(f'"{field}": "{name}"', f'"{field}": "../../{name}"'))
    with pytest.raises(CorruptError, match="is no name, and would become part of a path: refused"):
        open_bundle(bundle.root)


@pytest.mark.parametrize("name", ["a\\u0000b", "a\\ud800b", "a" * 5000])
def test_what_cannot_be_a_path_is_refused_in_one_line(bundle: Bundle, name: str):
    text = (bundle.root / "bundle.json").read_text()
    (bundle.root / "bundle.json").write_text(text.replace("variants/ort-int8/model.onnx", name))
    with pytest.raises(CorruptError, match="is no path: refused"):
        open_bundle(bundle.root)


def test_a_variant_without_a_model_is_refused(bundle: Bundle):
    text = (bundle.root / "bundle.json").read_text()
    (bundle.root / "bundle.json").write_text(text.replace('"model": "variants', '"modell": "variants'))
    with pytest.raises(CorruptError, match="ort-int8 has no model: compile again"):
        open_bundle(bundle.root)


def test_a_link_in_place_of_a_file_is_refused(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "model.onnx"
    elsewhere.write_bytes(b"graph")
    place = bundle.root / "variants/ort-int8/model.onnx"
    place.unlink()
    place.symlink_to(elsewhere)
    with pytest.raises(CorruptError, match="points outside the bundle"):
        open_bundle(bundle.root)


def test_a_link_in_place_of_a_folder_is_refused(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "variants"
    (bundle.root / "variants").rename(elsewhere)
    (bundle.root / "variants").symlink_to(elsewhere)
    with pytest.raises(CorruptError, match="points outside the bundle"):
        open_bundle(bundle.root)


def sealed_again(bundle: Bundle) -> Bundle:
    return seal(
        bundle.root, {name: getattr(bundle.core, name) for name in bundle.core.__dataclass_fields__ if name != "sha256"}
    )


def test_a_bundle_behind_a_link_opens(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory):
    link = tmp_path_factory.mktemp("links") / "bundle"
    link.symlink_to(bundle.root)
    assert open_bundle(link).sha256 == bundle.sha256


class Runs:
    """What a pickle can do to who reads it."""

    def __reduce__(self):
        return (exec, ("raise SystemExit('unpickled')",))


@pytest.mark.parametrize("name", ["weights.pkl", "weights.pt", "samples.npz", "samples.npy"])
def test_a_pickle_is_refused_however_it_is_wrapped(bundle: Bundle, name: str):
    path = bundle.root / name
    if name == "samples.npz":
        np.savez(path, x=np.zeros(3), y=np.array([Runs()], object))
    elif name == "samples.npy":
        np.save(path, np.array([Runs()], object), allow_pickle=True)
    else:
        path.write_bytes(pickle.dumps(Runs()))
    with pytest.raises(CorruptError, match=rf"{name}: .*is a pickle, which runs code when it is read: refused"):
        sealed_again(bundle)


def test_arrays_of_numbers_are_no_pickles(bundle: Bundle):
    np.savez(bundle.root / "samples.npz", x=np.frombuffer(b"'descr': '|O'" * 5, np.uint8), words=np.array(["a", "b"]))
    assert "samples.npz" in sealed_again(bundle).core.sha256


def test_what_calls_itself_an_archive_and_is_none_is_damaged(bundle: Bundle):
    (bundle.root / "samples.npz").write_bytes(b"not one")
    with pytest.raises(CorruptError, match=r"samples\.npz: no \.npz file"):
        sealed_again(bundle)


def test_a_number_edited_by_hand_changes_the_hash_that_its_measurements_name(bundle: Bundle):
    text = (bundle.root / "bundle.json").read_text()
    (bundle.root / "bundle.json").write_text(text.replace('"seed": 0', '"seed": 1'))
    assert open_bundle(bundle.root).sha256 != bundle.sha256


def test_a_bundle_opens_where_neither_torch_nor_onnx_can_be_imported(bundle: Bundle):
    code = "import sys; sys.modules.update(dict.fromkeys(('torch', 'onnx', 'onnx_ir', 'onnxruntime', 'openvino')));"
    code += f"import edgeprune; print(edgeprune.open({str(bundle.root)!r}).core.model)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "cnn"), done.stderr


def test_opening_takes_little_more_than_hashing_the_files(bundles: dict[str, Path], program):
    found = program("bundle_open").cost(bundles["cpu"], 11)
    assert found.more.estimate < 50, found


def test_another_schema_is_refused(bundle: Bundle):
    text = (bundle.root / "bundle.json").read_text()
    (bundle.root / "bundle.json").write_text(text.replace('"schema": 1', '"schema": 2'))
    with pytest.raises(CorruptError, match="schema 2, this version reads 1"):
        open_bundle(bundle.root)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"schema": 1}', b"\xff\xfe", b"[" * 100_000])
def test_a_damaged_record_is_one_line(bundle: Bundle, content: bytes):
    (bundle.root / "bundle.json").write_bytes(content)
    with pytest.raises(CorruptError, match="compile again") as caught:
        open_bundle(bundle.root)
    assert "\n" not in str(caught.value)


def test_a_folder_without_a_bundle_says_how_to_make_one(tmp_path: Path):
    with pytest.raises(InputError, match="edgeprune compile"):
        open_bundle(tmp_path)


def test_what_is_loaded_has_weights_as_wide_as_their_kernels(bundle: Bundle):
    def loaded(*layers: LayerPlan) -> int | None:
        return bundle.loaded_bytes(replace(variant, layers=layers))

    variant = bundle.core.variants[0]
    size = bundle.size_bytes(variant)
    unpacked = LayerPlan("a", "Conv", "a.weight", "int8", weight_bits=4, weights=1000)
    assert loaded(unpacked, LayerPlan("b", "Conv", "a.weight", "int8", weight_bits=4, weights=1000)) == size + 500
    assert loaded(LayerPlan("a", "MatMul", "a.weight", "int4", weight_bits=4, weights=1000)) == size
    assert loaded(LayerPlan("a", "Gemm", "a.weight", "bf16", weights=1000)) == size - 2000
    assert loaded(LayerPlan("a", "Gemm", "a.weight", "fp32", weights=1000)) == size
    assert loaded(LayerPlan("a", "Gemm", "a.weight", "int8")) is None


def test_an_unknown_variant_names_the_nearest(bundle: Bundle):
    with pytest.raises(UnknownNameError, match="did you mean 'ort-int8'"):
        bundle.variant("ort-int4")
