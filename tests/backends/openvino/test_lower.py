from __future__ import annotations

import pytest

from edgeprune.backends.openvino.lower import lower
from edgeprune.targets.load import load_target


@pytest.mark.parametrize(("precision", "hint"), [("fp32", "f32"), ("int8", "f32"), ("bf16", "bf16")])
def test_the_float_precision_is_pinned(float_model, tmp_path, precision, hint):
    lowered = lower(float_model, load_target("cpu"), precision, tmp_path)
    assert lowered.options == {"INFERENCE_PRECISION_HINT": hint}
    assert lowered.files["model"].read_bytes() == float_model.read_bytes()
