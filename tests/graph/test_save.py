import onnx.parser
import onnx_ir as ir
import pytest

from edgeprune.graph.load import read_onnx
from edgeprune.graph.save import write_onnx


def model() -> ir.Model:
    text = '<ir_version: 8, opset_import: ["" : 17]> main (float[N, 4] x) => (float[N, 4] y) { y = Relu(x) }'
    return ir.from_proto(onnx.parser.parse_model(text))


def test_equal_models_give_equal_bytes_that_read_back(tmp_path):
    write_onnx(model(), tmp_path / "a.onnx")
    write_onnx(model(), tmp_path / "b.onnx")
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    assert [node.op_type for node in read_onnx(tmp_path / "a.onnx").graph] == ["Relu"]


def test_a_file_that_cannot_be_written_leaves_nothing_behind(tmp_path):
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError, match="taken"):
        write_onnx(model(), tmp_path / "taken")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]
