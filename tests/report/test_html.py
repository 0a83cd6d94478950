from __future__ import annotations

import dataclasses
import os
import re
from html.parser import HTMLParser

import pytest

from edgeprune.errors import OutputError
from edgeprune.report.html import render, save

VOID = {"meta", "br", "hr", "img", "link", "input"}


class Page(HTMLParser):
    """Collects text, tags and addresses, and checks that tags are closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.text = ""

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href") and value]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def parsed(*bundles):
    page = Page()
    page.feed(render(bundles))
    page.close()
    assert page.open == []
    return page


def test_the_page_needs_nothing_from_elsewhere_and_runs_nothing(measured, core):
    page = parsed((core, measured))
    assert not {"script", "link", "img", "iframe"} & set(page.tags)
    assert all(address.startswith("#") for address in page.addresses)
    assert not re.search(r"url\(|@import", render([(core, measured)]).split("</style>")[0])


def test_the_page_says_what_the_terminal_says_and_more(measured, core):
    text = parsed((core, measured)).text
    for said in (
        "cnn on digits for cpu",
        "2.68x",
        "2.63 to 2.76",
        "energy unavailable: no powercap",
        "openvino-int8 ran fc1, fc2 in fp32, not int8",
        "fp32, not int8",
        "digits:all[1347:1797]",
        "it is the output",
        "edgeprune compile --recipe recipe.yaml --target cpu",
        "onnxruntime",
        "avx512_vnni",
    ):
        assert said in text


def test_every_note_that_a_cell_points_to_is_there(measured, core):
    page = render([(core, measured), (None, measured)])
    ids = re.findall(r'id="(note-\d+-\d+)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#(note-\d+-\d+)"', page)) <= set(ids)


def test_names_from_elsewhere_cannot_become_markup(measured, core):
    hostile = "<img src=x onerror=alert(1)>"
    layer = dataclasses.replace(measured.measurements[3].layers[2], name=hostile, reason="</table><b>")
    variant = dataclasses.replace(measured.measurements[3], layers=(layer,), warnings=(hostile,))
    page = render(
        [(dataclasses.replace(core, command=hostile), dataclasses.replace(measured, measurements=(variant,)))]
    )
    assert "<img" not in page
    assert hostile.replace("<", "&lt;").replace(">", "&gt;") in page


def test_measurements_without_a_bundle_make_a_page_too(measured):
    page = parsed((None, measured))
    assert "How to make this again" not in page.text
    assert "cnn for cpu" in page.text


def test_a_bundle_of_which_nothing_was_timed_makes_a_page_without_plots(measured, core):
    device = measured.measurements[-1]
    never = dataclasses.replace(measured.baseline, samples_ms=(), unmeasured="no device", environment=None, layers=())
    page = parsed((core, dataclasses.replace(measured, baseline=never, measurements=(device,), default=device.variant)))
    assert "svg" not in page.tags
    assert "not measured: no device" in page.text


def test_many_bundles_are_listed_first(measured, core):
    page = parsed((core, measured), (None, measured))
    assert "2 bundles" in page.text
    assert {"#bundle-1", "#bundle-2"} <= set(page.addresses)


def test_a_page_without_a_default_variant_says_so(measured, core):
    none = dataclasses.replace(measured, default=None, default_reason="no variant is within the budgets")
    assert "No default variant: no variant is within the budgets." in parsed((core, none), (core, none)).text


def test_the_page_of_the_same_measurements_is_the_same(measured, core):
    assert render([(core, measured)]) == render([(core, measured)])


def test_it_suits_dark_pages_phones_and_paper(measured, core):
    page = render([(core, measured)])
    assert "prefers-color-scheme: dark" in page
    assert 'name="viewport"' in page
    assert "@media print" in page


def test_a_page_is_written_whole_with_its_folder(tmp_path):
    save("<p>", tmp_path / "new" / "report.html")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["report.html"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match=r"report\.html: cannot be written \(Permission denied\)"):
        save("<p>", tmp_path / "report.html")


def test_a_file_where_a_folder_should_be_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        save("<p>", tmp_path / "file" / "report.html")


def test_the_epochs_before_and_after_pruning_are_told(measured, core):
    trained = dataclasses.replace(core, recipe=core.recipe | {"train": {"epochs": 30}})
    assert "the baseline: trained 30 epochs" in parsed((trained, measured)).text
