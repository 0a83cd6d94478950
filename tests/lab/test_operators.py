from __future__ import annotations

import pytest

from edgeprune.errors import InputError, MissingError
from edgeprune.lab.operators import operators_on
from edgeprune.latency_table import read_table
from edgeprune.pipeline.operators import OperatorSettings

QUICK = OperatorSettings(restarts=2, seconds=0.1, warm_min_s=0, warm_max_s=0.2)


@pytest.fixture
def timed(lab_of, tmp_path):
    def timed(bundle, **device):
        instance = lab_of({"name": "one", "transport": "local", **device}).instances[0]
        return operators_on(instance, bundle, tmp_path / "out", state=tmp_path / "devices", settings=QUICK, limit_s=60)

    return timed


def test_operators_go_into_the_table_of_the_devices_type_which_foretells_what_comes(timed, bundle):
    path, first = timed(bundle)
    assert path.parts[-2:] == ("cpu", "latency.csv")
    assert [before for _, before in first] == [None, None]
    assert {entry.key.operator for entry in read_table(path).entries} == {"MatMul"}
    _, again = timed(bundle)
    for variant, before in again:
        assert before is not None
        assert before.interpolated == 0
        assert variant.ms is not None


def test_what_says_nothing_of_the_type_is_refused(timed, bundle, bundle_of):
    with pytest.raises(MissingError, match="one: it is emulated"):
        timed(bundle, emulated=True)
    with pytest.raises(InputError, match="is for rpi5, but one is cpu"):
        timed(bundle_of("far", target="rpi5"))
