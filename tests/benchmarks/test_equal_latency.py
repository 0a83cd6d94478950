from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner
from rich.console import Console

from edgeprune.bundle import open_bundle
from edgeprune.interleaved.settings import Settings


@pytest.fixture(scope="module")
def equal(program):
    return program("equal_latency")


def point(equal, name, latency, accuracy, samples=1000):
    right = np.arange(samples) < round(accuracy * samples)
    return equal.Point(name, (latency,) * 7, right.astype(float), latency, 1)


@pytest.mark.parametrize(
    ("latency", "expected"),
    [(1.0, [1, 0, 0]), (0.4, [0, 1, 0]), (0.7, [0.5, 0.5, 0]), (0.3, [0, 0.5, 0.5]), (0.1, [0, 0, 1]), (3, [1, 0, 0])],
)
def test_a_line_is_made_of_its_nearest_points(equal, latency, expected):
    assert equal.weights_at(latency, [1.0, 0.4, 0.2]) == pytest.approx(expected)


def test_points_of_any_order_make_the_same_line(equal):
    assert equal.weights_at(0.3, [0.2, 1.0, 0.4]) == pytest.approx([0.5, 0, 0.5])


def test_a_network_is_as_far_above_the_line_as_it_is_more_accurate_there(equal):
    line = [point(equal, "large", 1.0, 0.94), point(equal, "small", 0.5, 0.90)]
    found = equal.standing(point(equal, "pruned", 0.75, 0.93), line)
    assert found.above.estimate == pytest.approx(0.01)
    assert found.lost.estimate == pytest.approx(0.01)
    assert found.lost.low < 0.01 < found.lost.high
    assert found.faster == pytest.approx(4 / 3)
    below = equal.standing(point(equal, "pruned", 0.45, 0.89), line)  # faster than all: beside the fastest
    assert below.above.estimate == pytest.approx(-0.01)
    assert equal.standing(line[1], line).above.estimate == 0


def test_seeds_stand_with_their_mean(equal):
    seeds = [point(equal, "seed 0", 0.5, 0.90), point(equal, "seed 1", 0.6, 0.94)]
    mean = equal.mean_point(seeds)
    assert mean.latency == pytest.approx(0.55)
    assert mean.marks.mean() == pytest.approx(0.92)
    spread = equal.standing(mean, [point(equal, "line", 1.0, 0.93)]).lost
    alone = equal.standing(seeds[0], [point(equal, "line", 1.0, 0.93)]).lost
    assert spread.high - spread.low < alone.high - alone.low  # what only one of them mistook counts for half


def test_bundles_are_measured_in_one_run(equal, bundles):
    cpu, narrow = open_bundle(bundles["cpu"]), open_bundle(bundles["narrow"])
    settings = Settings(restarts=1, seconds=0.05, rounds=2, energy_s=0, judged=False)
    found = equal.points([cpu, narrow], "ort-fp32", ["select", "report"], settings, Console(quiet=True))
    assert [one.name for one in found] == [cpu.root.name, narrow.root.name]
    assert found[0].relative == (1.0,)
    assert found[0].bytes > found[1].bytes
    assert len(found[0].marks) == sum(cpu.core.splits[name].samples for name in ("select", "report"))
    assert all(0.2 < one.marks.mean() <= 1 for one in found)


def test_a_line_of_several_seeds_is_made_of_their_means(equal, bundles, tmp_path):
    cpu, narrow = bundles["cpu"], bundles["narrow"]
    out = tmp_path / "found.json"
    how = ["--variant", "ort-fp32", "--restarts", "1", "--seconds", "0.05", "--out", str(out)]
    lines = ["--line", f"{cpu},{narrow}", "--line", f"{narrow},{cpu}"]
    result = CliRunner().invoke(equal.main, [f"{cpu},{narrow}", *lines, *how], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    found = json.loads(out.read_text())
    first, second, *seeds, mean = found["networks"]
    assert found["line"] == 2
    assert first["accuracy"] == pytest.approx(second["accuracy"])
    assert first["accuracy"] == pytest.approx(np.mean([one["accuracy"] for one in seeds]))
    assert len(seeds) == 2
    assert mean["above"]["estimate"] == pytest.approx(0)

    unequal = CliRunner().invoke(equal.main, [str(cpu), "--line", f"{cpu},{narrow}", "--line", str(cpu)])
    assert unequal.exit_code == 2
    assert "every seed needs the same networks" in unequal.output
