"""A report about a hundred bundles."""

from __future__ import annotations

import shutil
from pathlib import Path
from time import process_time

from edgeprune.report.html import render
from edgeprune.report.source import find

BUNDLES, SECONDS, BYTES = 100, 3.0, 2_000_000


def test_a_page_about_a_hundred_bundles_takes_under_3_s_and_2_mb(bundles, tmp_path):
    """Time of the processor, so that a busy machine changes nothing: reading every file, and writing the page."""
    for number in range(BUNDLES):
        copy = tmp_path / f"bundle-{number:02}"
        shutil.copytree(list(bundles.values())[number % len(bundles)], copy, ignore=shutil.ignore_patterns("variants"))
    begin = process_time()
    page = render(find([tmp_path]))
    seconds = process_time() - begin
    assert page.count('<article id="bundle-') == BUNDLES
    assert len(page.encode()) < BYTES
    assert seconds < SECONDS


def test_no_more_of_a_bundle_is_read_than_is_told(bundles, tmp_path):
    """Its models may be large: they are neither opened nor hashed."""
    copy = tmp_path / "cnn"
    shutil.copytree(bundles["cpu"], copy)
    for model in copy.rglob("*.onnx"):
        model.unlink()
    assert [source.name for source in find([Path(tmp_path)])] == ["cnn"]
