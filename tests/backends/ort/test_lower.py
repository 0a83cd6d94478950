from __future__ import annotations

from edgeprune.backends.ort.lower import lower
from edgeprune.targets.load import load_target


def test_the_file_travels_as_it_is_and_needs_no_options(float_model, tmp_path):
    lowered = lower(float_model, load_target("cpu"), "fp32", tmp_path)
    assert lowered.files["model"].read_bytes() == float_model.read_bytes()
    assert lowered.options == {}
