from pathlib import Path

import pytest

from edgeprune.bundle import Bundle, Task, Variant, open_bundle, seal
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


def test_a_link_in_place_of_a_file_is_refused(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "model.onnx"
    elsewhere.write_bytes(b"graph")
    place = bundle.root / "variants/ort-int8/model.onnx"
    place.unlink()
    place.symlink_to(elsewhere)
    with pytest.raises(CorruptError, match="points outside the bundle"):
        open_bundle(bundle.root)


def test_another_schema_is_refused(bundle: Bundle):
    text = (bundle.root / "bundle.json").read_text()
    (bundle.root / "bundle.json").write_text(text.replace('"schema": 1', '"schema": 2'))
    with pytest.raises(CorruptError, match="schema 2, this version reads 1"):
        open_bundle(bundle.root)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"schema": 1}', b"\xff\xfe"])
def test_a_damaged_record_is_one_line(bundle: Bundle, content: bytes):
    (bundle.root / "bundle.json").write_bytes(content)
    with pytest.raises(CorruptError, match="compile again") as caught:
        open_bundle(bundle.root)
    assert "\n" not in str(caught.value)


def test_a_folder_without_a_bundle_says_how_to_make_one(tmp_path: Path):
    with pytest.raises(InputError, match="edgeprune compile"):
        open_bundle(tmp_path)


def test_an_unknown_variant_names_the_nearest(bundle: Bundle):
    with pytest.raises(UnknownNameError, match="did you mean 'ort-int8'"):
        bundle.variant("ort-int4")
