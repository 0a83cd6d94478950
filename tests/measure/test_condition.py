from __future__ import annotations

import pytest

from edgeprune.errors import MissingError
from edgeprune.measure.condition import ConditionReader, temperature_c


def put(root, name, text):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_nothing_there_is_nothing_told(tmp_path):
    found = ConditionReader(tmp_path).read()
    assert found == (None, None, None, None, False)


def test_use_of_the_processor_is_what_grew_since_the_last_reading(tmp_path):
    put(tmp_path, "proc/stat", "cpu 100 0 100 700 100 0 0 0 0 0\ncpu0 1 2 3 4\n")
    reader = ConditionReader(tmp_path)
    put(tmp_path, "proc/stat", "cpu 120 0 110 760 110 0 0 0 0 0\n")
    assert reader.read().cpu == pytest.approx(0.3)
    assert reader.read().cpu is None


def test_headroom_is_the_least_of_machine_and_container(tmp_path):
    put(tmp_path, "proc/meminfo", "MemTotal: 100 kB\nMemAvailable: 50 kB\n")
    assert ConditionReader(tmp_path).read().headroom_bytes == 51200
    put(tmp_path, "sys/fs/cgroup/memory.max", "40000\n")
    put(tmp_path, "sys/fs/cgroup/memory.current", "10000\n")
    assert ConditionReader(tmp_path).read().headroom_bytes == 30000
    put(tmp_path, "sys/fs/cgroup/memory.max", "max\n")
    assert ConditionReader(tmp_path).read().headroom_bytes == 51200


def test_the_hottest_zone_counts(tmp_path):
    put(tmp_path, "sys/class/thermal/thermal_zone0/temp", "41500\n")
    put(tmp_path, "sys/class/thermal/thermal_zone1/temp", "52000\n")
    put(tmp_path, "sys/class/thermal/thermal_zone2/temp", "bad\n")
    assert temperature_c(tmp_path) == 52.0


def test_throttling_is_told_by_counters_or_by_a_device_that_slows_down(tmp_path):
    count = "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count"
    put(tmp_path, count, "7\n")
    reader = ConditionReader(tmp_path)
    assert not reader.read().throttled
    put(tmp_path, count, "8\n")
    assert reader.read().throttled
    assert not reader.read().throttled
    put(tmp_path, "sys/class/thermal/cooling_device0/type", "pwm-fan\n")
    put(tmp_path, "sys/class/thermal/cooling_device0/cur_state", "3\n")
    assert not reader.read().throttled
    put(tmp_path, "sys/class/thermal/cooling_device1/type", "thermal-cpufreq-0\n")
    put(tmp_path, "sys/class/thermal/cooling_device1/cur_state", "1\n")
    assert reader.read().throttled


def test_a_jetson_and_an_amd_card_tell_their_use(tmp_path):
    put(tmp_path, "sys/class/drm/card0/device/gpu_busy_percent", "30\n")
    assert ConditionReader(tmp_path).read().gpu == 0.3
    put(tmp_path, "sys/devices/platform/17000000.gpu/load", "455\n")
    assert ConditionReader(tmp_path).read().gpu == 0.455
    assert ConditionReader(tmp_path, card=lambda: 0.2).read().gpu == 0.2


def test_a_card_that_fails_tells_nothing(tmp_path):
    def gone():
        raise MissingError("gone")

    assert ConditionReader(tmp_path, card=gone).read().gpu is None
