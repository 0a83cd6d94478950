from __future__ import annotations

from edgeprune.report.markdown import table


def test_every_variant_of_every_bundle_is_a_row_of_one_table(measured):
    text = table([("cnn-digits", measured), ("cnn-mnist", measured)])
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 2 + 2 * 6
    assert {row.replace("\\|", "").count("|") for row in rows} == {11}
    assert "| cnn-mnist | ort-int8 (default) | 97.6 % [95.7, 98.6] | 0.44 points [-0.26, 1.13] | 44.7 kB |" in text


def test_notes_are_listed_once_and_places_and_fallbacks_per_bundle(measured):
    text = table([("one", measured), ("two", measured)])
    assert text.count("not measured: no device") == 1
    assert text.count("ran fc1, fc2 in fp32") == 2
    assert "- one: top-1 accuracy: report split, 450 samples" in text


def test_names_cannot_break_the_table(measured):
    text = table([("a|b_<c>", measured)])
    assert "| a\\|b\\_\\<c\\> |" in text
