"""Operations on ONNX graphs, as `onnx_ir.Model`: read, clean, count, find the layers with weights."""
