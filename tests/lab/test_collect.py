from __future__ import annotations

import sys
import threading
from contextlib import contextmanager
from dataclasses import replace

import pytest

from edgeprune.errors import DeviceError, InputError, MissingError
from edgeprune.lab.collect import Collector, CollectSettings, planned
from edgeprune.lab.connect import transport
from edgeprune.lab.journal import DONE, FAILED, QUEUED, RUNNING, Journal
from edgeprune.lab.lease import Lease
from edgeprune.lab.measure import measure_on
from edgeprune.progress import SilentTask
from tests.lab.conftest import QUICK, simulated

SETTINGS = CollectSettings(measure=QUICK, limit_s=60, wait_s=0, attempts=2, backoff_s=0.01)


class Told:
    """Progress whose lines are kept."""

    def __init__(self):
        self.lines = []

    @contextmanager
    def task(self, name, total=None):
        yield SilentTask()

    def say(self, text):
        self.lines.append(text)


@pytest.fixture
def run(tmp_path):
    """Collect, and say what became of each device: state and reason."""

    def run(lab, bundles, settings=SETTINGS, **given):
        with Journal(tmp_path / "out") as journal:
            number = journal.begin(planned(lab.instances, bundles), "")
            known = {one.sha256: one for one in bundles}
            collector = Collector(journal, tmp_path / "out", settings, known, **given)
            collector.collect(number, lab.instances)
            return {record.job.device: record for record in journal.records(run=number)}

    return run


def test_a_device_that_fails_is_a_row_with_its_reason_and_the_others_go_on(lab_of, bundle, run):
    kinds = ("healthy", "fails", "garbage", "cut", "full", "hangs")
    lab = lab_of(*(simulated(kind, kind) for kind in kinds))
    found = run(lab, [bundle], replace(SETTINGS, limit_s=1.0))
    assert found["healthy"].state == DONE
    assert {name: found[name].state for name in kinds[1:]} == dict.fromkeys(kinds[1:], FAILED)
    assert "simulated failure" in found["fails"].reason
    assert "which is no answer" in found["garbage"].reason
    assert "Broken pipe" in found["cut"].reason
    assert found["full"].reason == "full: its disk is full: make room there"
    assert found["hangs"].reason == "hangs: not done in 1 s, which is the time limit"
    assert {name: found[name].attempts for name in ("healthy", "full", "fails")} == {
        "healthy": 1,
        "full": 1,
        "fails": 2,
    }


def test_a_device_here_is_measured_for_real(lab_of, bundle, run, tmp_path):
    found = run(lab_of({"name": "here", "transport": "local"}), [bundle])
    assert found["here"].state == DONE, found["here"].reason
    with Journal(tmp_path / "out") as journal:
        ((_, measured),) = journal.measured()
    assert measured is not None
    assert measured.baseline.samples > 0
    assert measured.baseline.environment is not None
    assert not measured.baseline.environment.emulated
    assert {path.name for path in (tmp_path / "out/evidence/here/tiny").iterdir()} == {"ort-fp32.npz", "ort-fp32-2.npz"}
    left = [path for path in (tmp_path / "out/.devices/here").iterdir() if path.name != "lease"]
    assert left == []


def test_every_bundle_goes_to_every_device_of_its_type(lab_of, bundle_of):
    lab = lab_of({"name": "a"}, {"name": "b"}, {"name": "pi", "target": "rpi5"})
    one, other, far = bundle_of("one"), bundle_of("other"), bundle_of("far", target="rpi5")
    jobs = planned(lab.instances, [one, other, far])
    assert [(job.device, job.name) for job in jobs] == [
        *(("a", "one"), ("b", "one"), ("a", "other"), ("b", "other")),
        ("pi", "far"),
    ]
    with pytest.raises(InputError, match="is for rpi5, but the devices that were named are cpu"):
        planned(lab.instances[:2], [far])
    with pytest.raises(InputError, match="give it once"):
        planned(lab.instances, [one, one])


def test_a_device_that_comes_back_is_measured_after_all(lab_of, bundle, run):
    calls = []

    def measure(*args, **kwargs):
        calls.append(args[0].name)
        if len(calls) == 1:
            raise DeviceError("it fell asleep")
        return measure_on(*args, **kwargs)

    told = Told()
    found = run(lab_of(simulated("one")), [bundle], measure=measure, progress=told)
    assert (found["one"].state, found["one"].attempts) == (DONE, 2)
    assert "one: tiny: it fell asleep; trying again" in told.lines


def test_what_somebody_must_put_right_is_not_tried_again(lab_of, bundle, run):
    def measure(*args, **kwargs):
        raise MissingError("no runtime there")

    found = run(lab_of(simulated("one")), [bundle], measure=measure)
    assert (found["one"].state, found["one"].attempts, found["one"].reason) == (FAILED, 1, "no runtime there")


def test_answers_that_make_no_sense_are_the_devices_fault(lab_of, bundle, run):
    def measure(*args, **kwargs):
        return {}["load_ms"]

    found = run(lab_of(simulated("one")), [bundle], measure=measure)
    assert found["one"].reason == "one: what it answered makes no sense (KeyError: 'load_ms')"


def test_waiting_grows_and_a_device_cools_down_and_is_turned_off_and_on(lab_of, bundle_of, run, tmp_path):
    waited, turned = [], tmp_path / "turned"
    touch = [sys.executable, "-c", f"open({str(turned)!r}, 'a').write('x')"]
    lab = lab_of(simulated("one", "fails", power_cycle=touch, boot_s=7, cool_down_s=30))
    settings = replace(SETTINGS, attempts=4, backoff_s=1.0)
    run(lab, [bundle_of("first"), bundle_of("second")], settings, sleep=waited.append)
    assert waited == [1.0, 2.0, 7.0, 4.0, 30.0]  # and of a device that fails the next job is tried once
    assert turned.read_text() == "x"


def test_a_power_command_that_fails_is_told_and_the_device_is_tried_all_the_same(lab_of, bundle, run):
    told = Told()
    lab = lab_of(simulated("one", "fails", power_cycle=["/nowhere/switch"], boot_s=0))
    found = run(lab, [bundle], progress=told)
    assert found["one"].attempts == 2
    assert any("/nowhere/switch" in line and "No such file" in line for line in told.lines)


def test_a_device_in_use_is_waited_for_and_then_told(lab_of, bundle, run, tmp_path):
    lab = lab_of(simulated("one"))
    way = transport(lab.instances[0].device, tmp_path / "out" / ".devices")
    with Lease(way, "one"):
        found = run(lab, [bundle])
        assert found["one"].state == FAILED
        assert "in use by" in found["one"].reason
        told = Told()
        waiting = threading.Thread(
            target=lambda: run(lab, [bundle], replace(SETTINGS, wait_s=30), progress=told), daemon=True
        )
        waiting.start()
        while not told.lines:
            waiting.join(0.01)
    waiting.join(30)
    assert "in use by" in told.lines[0]
    assert told.lines[-1].startswith("one: tiny: measured")


def test_an_interrupt_lets_devices_go_and_the_same_run_goes_on(lab_of, bundle_of, tmp_path):
    bundles = [bundle_of("first"), bundle_of("second")]
    lab, done = lab_of(simulated("one"), simulated("stuck", "hangs")), []

    class Interrupts(Told):
        def say(self, text):
            if text.startswith("one: second"):
                done.append(text)

    def measure(*args, **kwargs):
        if args[0].name == "stuck" and done:
            raise KeyboardInterrupt
        return measure_on(*args, **kwargs)

    known = {one.sha256: one for one in bundles}
    jobs = planned(lab.instances, bundles)
    with Journal(tmp_path) as journal:
        run = journal.begin(jobs, "")
        collector = Collector(journal, tmp_path, replace(SETTINGS, limit_s=2), known, {}, Interrupts(), measure)
        with pytest.raises(KeyboardInterrupt):
            collector.collect(run, lab.instances)
        assert {record.state for record in journal.records(run=run, device="one")} == {DONE}
        assert RUNNING in {record.state for record in journal.records(run=run, device="stuck")}
    healed = lab_of(simulated("one"), simulated("stuck"))
    with Journal(tmp_path) as journal:
        assert journal.begin(jobs, "") == run
        before = {record.job: record.at for record in journal.records(run=run, device="one")}
        Collector(journal, tmp_path, SETTINGS, known).collect(run, healed.instances)
        assert QUEUED not in {record.state for record in journal.records(run=run)}
        assert {record.job: record.at for record in journal.records(run=run, device="one")} == before
        assert {record.state for record in journal.records(run=run, device="stuck")} == {DONE}


def test_forty_devices_each_finish_once_whatever_the_others_do(lab_of, bundle, run):
    kinds = {number: {0: "fails", 1: "garbage", 2: "hangs"}.get(number % 10, "healthy") for number in range(40)}
    lab = lab_of(*(simulated(f"d{number}", kind) for number, kind in kinds.items()))
    found = run(lab, [bundle], replace(SETTINGS, limit_s=1.0, attempts=1))
    assert len(found) == 40
    for number, kind in kinds.items():
        assert found[f"d{number}"].state == (DONE if kind == "healthy" else FAILED), found[f"d{number}"]
