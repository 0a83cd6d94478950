from __future__ import annotations

import dataclasses
import re
from html.parser import HTMLParser

from edgeprune.report.html import FEW, render
from edgeprune.report.source import Source
from edgeprune.results import Distance, Parity

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


def rendered(*bundles):
    return render([Source(measured, core) for core, measured in bundles])


def parsed(*bundles):
    page = Page()
    page.feed(rendered(*bundles))
    page.close()
    assert page.open == []
    return page


def test_the_page_needs_nothing_from_elsewhere_and_runs_nothing(measured, core):
    page = parsed((core, measured))
    assert not {"script", "link", "img", "iframe"} & set(page.tags)
    assert all(address.startswith("#") for address in page.addresses)
    assert not re.search(r"url\(|@import", rendered((core, measured)).split("</style>")[0])


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
    page = rendered((core, measured), (None, measured))
    ids = re.findall(r'id="(note-\d+-\d+)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#(note-\d+-\d+)"', page)) <= set(ids)


def test_names_from_elsewhere_cannot_become_markup(measured, core):
    hostile = "<img src=x onerror=alert(1)>"
    layer = dataclasses.replace(measured.measurements[3].layers[2], name=hostile, reason="</table><b>")
    variant = dataclasses.replace(measured.measurements[3], layers=(layer,), warnings=(hostile,))
    page = rendered(
        (dataclasses.replace(core, command=hostile), dataclasses.replace(measured, measurements=(variant,)))
    )
    assert "<img" not in page
    assert hostile.replace("<", "&lt;").replace(">", "&gt;") in page


def test_measurements_without_a_bundle_make_a_page_too(measured):
    page = parsed((None, measured))
    assert "How to make this again" not in page.text
    assert "cnn for cpu" in page.text


def test_a_bundle_of_which_nothing_was_timed_makes_a_page_without_plots_of_time(measured, core):
    device = measured.measurements[-1]
    never = dataclasses.replace(measured.baseline, samples_ms=(), unmeasured="no device", environment=None, layers=())
    page = parsed((core, dataclasses.replace(measured, baseline=never, measurements=(device,), default=device.variant)))
    assert "Accuracy against latency" not in page.text
    assert "How latency spreads" not in page.text
    assert "not measured: no device" in page.text


def test_many_bundles_are_listed_first(measured, core):
    page = parsed((core, measured), (None, measured))
    assert "2 bundles" in page.text
    assert {"#bundle-1", "#bundle-2"} <= set(page.addresses)


def test_a_page_without_a_default_variant_says_so(measured, core):
    none = dataclasses.replace(measured, default=None, default_reason="no variant is within the budgets")
    assert "No default variant: no variant is within the budgets." in parsed((core, none), (core, none)).text


def test_the_page_of_the_same_measurements_is_the_same(measured, core):
    assert rendered((core, measured)) == rendered((core, measured))


def test_it_suits_dark_pages_phones_and_paper(measured, core):
    page = rendered((core, measured))
    assert "prefers-color-scheme: dark" in page
    assert 'name="viewport"' in page
    assert "@media print" in page


def test_the_epochs_before_and_after_pruning_are_told(measured, core):
    trained = dataclasses.replace(core, recipe=core.recipe | {"train": {"epochs": 30}})
    assert "The baseline: trained 30 epochs" in parsed((trained, measured)).text


def test_what_fell_back_is_a_table_with_reasons(source):
    page = parsed((source.core, source.measured))
    assert "What fell back, and why" in page.text
    assert "no 8-bit kernel for this shape" in page.text
    assert "tensorrt-int8 tells what was meant, not what ran: no device." in page.text


def test_parity_is_a_table_and_what_departs_is_told_first(source):
    near, equal = Distance("y", 0.013, 31.2), Distance("y", 0.0, 300.0)
    holds = Parity(64, (near,), (equal,), "top1", 0.953, 0.953)
    departs = Parity(64, (Distance("y", 1.9, -4.0),), (), fault="its file says <something> else: layer 'conv2'")
    first, second, *others = source.measured.measurements
    measured = dataclasses.replace(
        source.measured,
        measurements=(dataclasses.replace(first, parity=holds), dataclasses.replace(second, parity=departs), *others),
    )
    page = render([dataclasses.replace(source, measured=measured)])
    assert "1.3e-02 (31 dB)" in page
    assert "equal" in page
    assert "95.3" in page
    told = page.index("ort-int8: its file says &lt;something&gt; else")
    assert told < page.index("<h3>Variants</h3>") < page.index("<h3>Parity</h3>")
    assert "<h3>Parity</h3>" not in render([source])


def test_every_plot_is_there_and_every_wide_box_can_be_reached_by_keyboard(source):
    page = render([source])
    assert page.count("<svg") == page.count("<figure>") == page.count('role="img"') == 8
    assert page.count('class="scroll"') == page.count('class="scroll" role="region" tabindex="0" aria-label=')


def test_plans_hashes_and_seeds_are_told(source):
    page = parsed((source.core, source.measured)).text
    assert "seed" in page
    tried = render([source])
    assert "1 in int4, 2 in int8, 1 in fp32" in tried
    assert "2.31" in tried


def test_a_page_about_many_tells_what_can_be_compared_and_where_the_rest_is(source):
    page = render([source] * (FEW + 1))
    assert page.count("<svg") == 1
    assert "report.html that lies in its folder" in page
    assert "no 8-bit kernel for this shape" in page
    assert render([source] * 2).count("<svg") == 8 * 2 + 1


def test_unlike_measurements_stand_in_tables_of_their_own(source):
    environment = dataclasses.replace(source.measured.baseline.environment, machine="another")
    baseline = dataclasses.replace(source.measured.baseline, environment=environment)
    other = dataclasses.replace(source.measured, baseline=baseline)
    page = render([source, dataclasses.replace(source, measured=other)])
    assert "<h3>another, 1 thread</h3>" in page
    assert page.count('<th scope="col">bundle</th>') == 2


def test_bundles_judged_by_other_samples_or_metrics_are_not_in_one_plot(source):
    other = dataclasses.replace(source.core.splits["report"], sha256="99" * 32)
    core = dataclasses.replace(source.core, splits=source.core.splits | {"report": other})
    assert "2 bundles on digits" in render([source, source])
    assert "2 bundles on digits" not in render([source, dataclasses.replace(source, core=core)])
