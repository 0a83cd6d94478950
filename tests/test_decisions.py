from __future__ import annotations

import math

import pytest

from edgeprune.decisions import (
    PREDICTED,
    TRIED,
    Predicted,
    TriedPlan,
    read_predicted,
    read_tried,
    write_predicted,
    write_tried,
)
from edgeprune.errors import CorruptError


def test_what_was_written_is_read(tmp_path):
    predicted = Predicted("curvature", {"conv.weight": {"int8": 1.5e-7, "int4": 0.0}})
    tried = (TriedPlan(True, 1e-4, -0.5, 1234, {"int8": 2}), TriedPlan(False, 1e-2, 3.0, 900, {"int4": 2}))
    write_predicted(predicted, tmp_path)
    write_tried(tried, tmp_path)
    assert read_predicted(tmp_path) == predicted
    assert read_tried(tmp_path) == tried


def test_a_bundle_of_one_precision_has_neither(tmp_path):
    assert read_predicted(tmp_path) is None
    assert read_tried(tmp_path) == ()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"method": 1}'])
def test_damage_is_told_with_what_to_do(tmp_path, text):
    (tmp_path / PREDICTED).write_text(text)
    with pytest.raises(CorruptError, match=r"sensitivity\.json: not what a compile wrote .*: compile again"):
        read_predicted(tmp_path)
    (tmp_path / TRIED).write_text(text or "{}")
    if text != "[]":
        with pytest.raises(CorruptError, match=r"tried\.json: not what a compile wrote"):
            read_tried(tmp_path)


def test_a_plan_whose_loss_is_no_number_can_be_kept(tmp_path):
    write_tried([TriedPlan(False, math.nan, math.inf, 10, {})], tmp_path)
    (found,) = read_tried(tmp_path)
    assert math.isnan(found.predicted_loss)
    assert found.lost_points == math.inf
