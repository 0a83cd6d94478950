from __future__ import annotations

import json

import pytest

from edgeprune.report.document import document


def test_the_document_is_json_and_has_all_but_the_samples(measured):
    found = json.loads(json.dumps(document(measured), allow_nan=False))
    assert found["default"] == "ort-int8"
    assert found["variants"][0]["variant"] == "ort-fp32"
    chosen = found["variants"][1]
    assert "samples_ms" not in chosen
    assert chosen["p50_ms"] == pytest.approx(measured.measurements[1].percentile_ms(50))
    assert chosen["samples"] == 1200
    assert found["variants"][4]["p99_ms"] is None
    assert found["variants"][3]["fallbacks"] == ["fc1", "fc2"]
