from __future__ import annotations

import pytest

from edgeprune.errors import MissingError, UnknownNameError
from edgeprune.meters import METERS
from edgeprune.meters.meter import detect


def test_without_a_named_meter_there_is_none():
    with pytest.raises(MissingError, match="the target file names no meter"):
        detect([])


def test_an_unknown_meter_is_told_with_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean 'rapl'"):
        detect(["rappl"])


@pytest.mark.parametrize("name", sorted(METERS))
def test_every_meter_counts_where_it_has_a_sensor(name):
    try:
        meter = detect([name])
    except MissingError as error:
        pytest.skip(str(error))
    assert meter.sensor
    assert meter.energy_j() >= 0
    meter.close()
