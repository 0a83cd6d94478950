from __future__ import annotations

import json

from click.testing import CliRunner

from edgeprune.cli.main import main
from edgeprune.metrics import wilson
from edgeprune.report.bench_results import keep
from edgeprune.results import Accuracy, Measured, Measurement


def test_a_page_is_written_about_what_was_measured(tmp_path):
    accuracy = Accuracy("top1", "report", 10, wilson(9, 10), None, "measured")
    baseline = Measurement("ab", "cnn", "cpu", "ort-fp32", "ort", "fp32", 100, (accuracy,), samples_ms=((1.0, 1.1),))
    keep(Measured("ort-fp32", "alone", baseline, ()), tmp_path / "cnn", tmp_path / "results")
    page = tmp_path / "pages" / "report.html"
    shown = CliRunner().invoke(main, ["report", str(tmp_path / "results"), "-o", str(page), "--json"])
    assert json.loads(shown.stdout) == {"report": str(page), "bundles": 1}
    assert "cnn for cpu" in page.read_text()
