"""What the counters say is replayed, for most machines have none; `test_meter.py` asks Zeus itself where it is."""

import sys
from types import SimpleNamespace

import pytest

from edgeprune.errors import MissingError
from edgeprune.meters.zeus import ZeusMeter


class Monitor:
    """What `ZeusMonitor` offers; each window draws the next of `windows`."""

    def __init__(self, *windows, cards=1, packages=1):
        self.gpu_indices, self.cpu_indices = list(range(cards)), list(range(packages))
        self.windows, self.open = iter(windows), False

    def begin_window(self, key, sync_execution):
        assert not self.open, "Zeus refuses a window that is open"
        self.open = True

    def end_window(self, key, sync_execution):
        self.open = False
        found = next(self.windows, None)
        if found is None:
            raise RuntimeError("GPU is lost")
        return SimpleNamespace(**dict.fromkeys(("gpu_energy", "cpu_energy", "dram_energy")) | found)

    def reset_windows(self):
        self.open = False


def test_cards_packages_and_memory_are_added_up_from_window_to_window():
    windows = (
        {"gpu_energy": {0: 2.0, 1: 1.0}, "cpu_energy": {0: 0.5}, "dram_energy": {0: 0.25}},
        {"gpu_energy": {0: 1.0}},
    )
    meter = ZeusMeter(Monitor(*windows, cards=2))
    assert meter.sensor == "Zeus 2 cards + 1 processor packages"
    assert meter.energy_j() == pytest.approx(3.75)
    assert meter.energy_j() == pytest.approx(4.75)
    meter.close()


def test_a_host_without_counters_has_no_meter():
    with pytest.raises(MissingError, match="Zeus: finds no counter"):
        ZeusMeter(Monitor(cards=0, packages=0))


def test_a_counter_that_fails_midway_is_told():
    meter = ZeusMeter(Monitor({"gpu_energy": {0: 1.0}}))
    assert meter.energy_j() == pytest.approx(1.0)
    with pytest.raises(MissingError, match=r"GPU is lost \(while measuring\)"):
        meter.energy_j()


def test_without_zeus_the_way_to_get_it_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "zeus.monitor", None)
    with pytest.raises(MissingError, match=r"pip install 'edgeprune\[zeus\]'"):
        ZeusMeter()
