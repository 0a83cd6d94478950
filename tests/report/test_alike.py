from __future__ import annotations

import dataclasses

import pytest

from edgeprune.errors import InputError
from edgeprune.report.alike import check_alike, circumstances, groups
from edgeprune.scenario import LOADGEN, Scenario


def elsewhere(source, **changes):
    """The same, measured in another environment."""
    environment = dataclasses.replace(source.measured.baseline.environment, **changes)
    baseline = dataclasses.replace(source.measured.baseline, environment=environment)
    rest = tuple(
        one if one.environment is None else dataclasses.replace(one, environment=environment)
        for one in source.measured.measurements
    )
    measured = dataclasses.replace(source.measured, baseline=baseline, measurements=rest)
    return dataclasses.replace(source, measured=measured)


def never(source):
    baseline = dataclasses.replace(source.measured.baseline, environment=None, samples_ms=(), unmeasured="no device")
    return dataclasses.replace(
        source, measured=dataclasses.replace(source.measured, baseline=baseline, measurements=())
    )


def test_load_and_temperature_pass_and_are_no_difference(source):
    warm = elsewhere(source, load_average=3.0, temperature_c=80.0)
    check_alike([source, warm])
    assert len(groups([source, warm])) == 1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"machine": "Cortex-A78AE"}, "machine A processor with a <long> & telling name / Cortex-A78AE"),
        ({"threads": 4}, "threads 1 / 4"),
        ({"versions": {"onnxruntime": "1.23.2"}}, "versions.onnxruntime 1.31.1 / 1.23.2"),
        ({"emulated": True}, "emulated False / True"),
    ],
)
def test_what_was_not_measured_alike_is_refused_with_files_differences_and_a_way_out(source, changes, said):
    other = dataclasses.replace(elsewhere(source, **changes), path=source.path.with_name("other.json"))
    with pytest.raises(InputError) as error:
        check_alike([source, source, other])
    message = str(error.value)
    assert "build/cnn/measured.json and build/cnn/other.json were not measured alike" in message
    assert said in message
    assert "--apart" in message
    assert "\n" not in message


def test_of_many_differences_a_few_are_told(source):
    with pytest.raises(InputError, match=r"; \.\.\.\)"):
        check_alike([source, elsewhere(source, machine="a", arch="b", cores=64, os="c", python="3.10", governor="d")])


def test_groups_keep_the_order_and_are_told_apart_by_their_titles(source):
    newer = elsewhere(source, versions={"onnxruntime": "1.32.0"})
    found = groups([source, newer, never(source), source])
    assert [len(group.sources) for group in found] == [2, 1, 1]
    titles = [group.title for group in found]
    assert "onnxruntime 1.31.1" in titles[0]
    assert "onnxruntime 1.32.0" in titles[1]
    assert titles[2] == "cpu, not measured: no device"
    assert len(set(titles)) == 3


def test_a_bundle_that_did_not_run_is_never_in_one_table_with_one_that_did(source):
    with pytest.raises(InputError, match="measured yes / no: no device"):
        check_alike([source, never(source)])


def test_circumstances_are_all_of_the_environment_that_lasts(source):
    found = circumstances(source.measured)
    assert {"machine", "isa", "threads", "versions.onnxruntime"} <= found.keys()
    assert not {"load_average", "temperature_c"} & found.keys()


def test_other_loads_are_refused_and_stand_in_the_title(source):
    offline = Scenario("offline", LOADGEN)
    records = [
        dataclasses.replace(one, scenario=offline) for one in (source.measured.baseline, *source.measured.measurements)
    ]
    other = dataclasses.replace(source.measured, baseline=records[0], measurements=tuple(records[1:]))
    loaded = dataclasses.replace(source, measured=other)
    with pytest.raises(InputError, match=r"scenario\.name single-stream / offline"):
        check_alike([source, loaded])
    assert [group.title.count("offline, by LoadGen") for group in groups([source, loaded])] == [0, 1]
