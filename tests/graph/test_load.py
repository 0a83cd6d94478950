import random
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest

from edgeprune.errors import CorruptError, EdgePruneError, ModelError
from edgeprune.graph.load import OPSETS, read_onnx

MODEL = """<ir_version: 8, opset_import: ["" : {opset}]>
main (float[N, 4] x) => (float[N, 2] y) <float[4, 2] w = {{1, 2, 3, 4, 5, 6, 7, 8}}>
{{ h = MatMul(x, w)  y = {op}(h) }}"""


def write(path: Path, *, opset: int = 17, op: str = "Relu", domain: str = "") -> Path:
    proto = onnx.parser.parse_model(MODEL.format(opset=opset, op=op))
    proto.opset_import[0].domain = domain
    onnx.save(proto, path)
    return path


def write_external(path: Path, location: str, length: int = 32) -> Path:
    """MODEL with its weight in another file."""
    proto = onnx.load(write(path))
    weight = proto.graph.initializer[0]
    weight.ClearField("float_data")
    weight.ClearField("raw_data")
    weight.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", str(length))):
        weight.external_data.add(key=key, value=value)
    path.write_bytes(proto.SerializeToString())
    return path


def test_a_model_is_read_with_the_shapes_of_its_values(tmp_path):
    model = read_onnx(write(tmp_path / "m.onnx"))
    assert [node.op_type for node in model.graph] == ["MatMul", "Relu"]
    assert [str(size) for size in model.graph[0].outputs[0].shape] == ["N", "2"]


def test_the_default_domain_may_be_spelled_out(tmp_path):
    assert read_onnx(write(tmp_path / "m.onnx", domain="ai.onnx")).opset_imports == {"": 17}


@pytest.mark.parametrize("content", [b"", b"hello", b"\x00" * 64], ids=["empty", "text", "zeros"])
def test_what_is_no_onnx_file_is_refused(tmp_path, content):
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(CorruptError, match="not an ONNX"):
        read_onnx(tmp_path / "m.onnx")


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(CorruptError, match="no such file"):
        read_onnx(tmp_path / "m.onnx")


def test_no_damage_to_a_file_raises_anything_but_our_own_errors_in_one_line(tmp_path):
    whole = write(tmp_path / "m.onnx").read_bytes()
    choose = random.Random(0)
    damaged = tmp_path / "damaged.onnx"
    refused = 0
    for trial in range(150):
        content = bytearray(whole)
        for _ in range(choose.choice((1, 3, 10))):
            content[choose.randrange(len(content))] = choose.randrange(256)
        damaged.write_bytes(content[: choose.randrange(len(content))] if trial % 3 == 0 else content)
        try:
            read_onnx(damaged)
        except EdgePruneError as error:
            refused += 1
            assert "\n" not in str(error)  # noqa: PT017
    assert refused > 75


@pytest.mark.parametrize("opset", [OPSETS.start - 1, OPSETS.stop])
def test_an_opset_outside_the_range_is_refused_with_the_range(tmp_path, opset):
    with pytest.raises(ModelError, match=f"opset {opset}: opsets 9 to 24 are read"):
        read_onnx(write(tmp_path / "m.onnx", opset=opset))


@pytest.mark.parametrize("op", ["Unfold", "Upsample"], ids=["unknown", "deprecated"])
def test_an_operator_that_the_opset_lacks_is_named_with_its_node(tmp_path, op):
    with pytest.raises(ModelError, match=f"node 'y': ONNX opset 17 has no operator {op}"):
        read_onnx(write(tmp_path / "m.onnx", op=op))


def test_shapes_that_contradict_each_other_are_refused(tmp_path):
    proto = onnx.load(write(tmp_path / "m.onnx"))
    proto.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 5
    onnx.save(proto, tmp_path / "m.onnx")
    with pytest.raises(ModelError, match="not valid ONNX"):
        read_onnx(tmp_path / "m.onnx")


def test_tensors_beside_the_file_are_read_into_memory(tmp_path):
    weight = np.arange(8, dtype=np.float32).reshape(4, 2)
    (tmp_path / "w.bin").write_bytes(weight.tobytes())
    model = read_onnx(write_external(tmp_path / "m.onnx", "w.bin"))
    (tmp_path / "w.bin").unlink()
    np.testing.assert_array_equal(model.graph.initializers["w"].const_value.numpy(), weight)


def test_tensors_outside_the_models_folder_are_never_opened(tmp_path):
    (tmp_path / "secret.bin").write_bytes(bytes(32))
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    for location in ("../secret.bin", str(tmp_path / "secret.bin"), "link.bin"):
        with pytest.raises(ModelError, match="outside the model's folder"):
            read_onnx(write_external(folder / "m.onnx", location))


def test_more_than_fits_one_file_is_refused_before_it_is_read(tmp_path):
    with (tmp_path / "w.bin").open("wb") as file:
        file.truncate(2**31)  # a hole: nothing is written
    with pytest.raises(ModelError, match=r"\d+ bytes of weights; only models that fit one file"):
        read_onnx(write_external(tmp_path / "m.onnx", "w.bin", length=2**31))


def test_a_graph_that_computes_nothing_is_refused(tmp_path):
    (tmp_path / "m.onnx").write_bytes(
        onnx.parser.parse_model('<ir_version: 8, opset_import: ["" : 17]> g (float[1] x) => (float[1] x) {}')
        .SerializeToString()
    )  # fmt: skip
    with pytest.raises(ModelError, match="it has no nodes"):
        read_onnx(tmp_path / "m.onnx")


def test_tensors_that_are_missing_or_cut_short_are_refused(tmp_path):
    with pytest.raises(CorruptError, match="missing"):
        read_onnx(write_external(tmp_path / "m.onnx", "w.bin"))
    (tmp_path / "w.bin").write_bytes(bytes(31))
    with pytest.raises(CorruptError, match="cut short"):
        read_onnx(write_external(tmp_path / "m.onnx", "w.bin"))
