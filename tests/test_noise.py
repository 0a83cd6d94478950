import json

import numpy as np
import pytest

from edgeprune.errors import OutputError
from edgeprune.noise import ASSUMED, ENOUGH, MOST, Noise, distance, noise_file, read_noise, write_noise


def test_a_ratio_and_its_inverse_are_equally_far_from_one():
    assert distance(1.25) == pytest.approx(0.25)
    assert distance(0.8) == pytest.approx(0.25)
    assert distance(1.0) == 0


def test_of_few_controls_the_farthest_is_the_floor_and_less_than_what_is_assumed_it_is_not():
    few = Noise("here").with_controls(1.001, 0.999)
    assert Noise("here").floor == few.floor == ASSUMED
    assert not few.known
    assert few.with_controls(0.98).floor == pytest.approx(1 / 0.98 - 1)


def test_of_enough_controls_nothing_is_assumed():
    enough = Noise("here").with_controls(*[1.001] * (ENOUGH - 1), 0.998)
    assert enough.known
    assert enough.floor == pytest.approx(1 / 0.998 - 1)


def test_as_often_as_promised_the_next_control_lies_below_the_floor_of_enough():
    draws = np.exp(np.random.default_rng(0).standard_t(3, (4000, ENOUGH + 1)) * 0.003)
    below = [distance(row[-1]) <= Noise("here", tuple(row[:-1])).floor for row in draws]
    assert np.mean(below) == pytest.approx(0.95, abs=0.01)  # whatever the distribution


def test_of_many_the_floor_lies_above_nearly_all_and_old_ones_are_forgotten():
    ratios = np.exp(np.random.default_rng(0).normal(0, 0.005, 500))
    noise = Noise("here").with_controls(1.5, *ratios)
    assert len(noise.controls) == MOST
    below = [distance(one) <= noise.floor for one in noise.controls]
    assert 0.95 <= np.mean(below) < 1
    assert noise.floor < 0.02


def test_what_is_kept_is_found_again_by_its_machine_alone(tmp_path):
    noise = Noise("here", (1.01, 0.99, 1.0))
    assert write_noise(noise, tmp_path) == noise_file(tmp_path, "here")
    assert read_noise(tmp_path, "here") == noise
    assert read_noise(tmp_path, "elsewhere") == Noise("elsewhere")


@pytest.mark.parametrize(
    "content",
    [
        "torn",
        "[]",
        json.dumps({"schema": 0, "environment": "here", "controls": [1.0]}),
        json.dumps({"schema": 1, "environment": "elsewhere", "controls": [1.0]}),
        json.dumps({"schema": 1, "environment": "here", "controls": [0.0]}),
    ],
)
def test_what_is_damaged_or_of_another_machine_is_no_floor(tmp_path, content):
    path = noise_file(tmp_path, "here")
    path.parent.mkdir()
    path.write_text(content)
    assert read_noise(tmp_path, "here") == Noise("here")


def test_where_it_cannot_be_kept_the_way_out_is_told(tmp_path):
    (tmp_path / "noise").write_text("a file, no folder")
    with pytest.raises(OutputError, match="EDGEPRUNE_CACHE=DIR"):
        write_noise(Noise("here"), tmp_path)
