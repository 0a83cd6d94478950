from __future__ import annotations

from xml.etree import ElementTree as ET

from edgeprune.report.plots.plans import tried_plans


def test_the_limit_is_drawn_where_there_is_one(source):
    def texts(limit):
        return {node.text for node in ET.fromstring(tried_plans(source.tried, limit)).iter()}

    assert "at most 1.5" in texts(1.5)
    assert not any((text or "").startswith("at most") for text in texts(None))


def test_a_single_plan_is_no_plot(source):
    assert tried_plans(source.tried[:1], 1.0) is None
