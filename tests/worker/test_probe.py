from __future__ import annotations

import json

import pytest

from edgeprune.results import Environment
from edgeprune.worker.probe import probe


def write(root, path, text):
    goal = root / path
    goal.parent.mkdir(parents=True, exist_ok=True)
    goal.write_text(text)


PI5 = "processor\t: 0\nBogoMIPS\t: 108.00\nFeatures\t: fp asimd evtstrm aes crc32 atomics fphp asimdhp cpuid asimddp\n"
NUC = "processor\t: 0\nvendor_id\t: GenuineIntel\nmodel name\t: 13th Gen Core\nflags\t\t: fpu avx2 fma avx_vnni\n"


@pytest.fixture
def pi(tmp_path):
    write(tmp_path, "proc/cpuinfo", PI5)
    write(tmp_path, "proc/device-tree/model", "Raspberry Pi 5 Model B Rev 1.0\0")
    write(tmp_path, "proc/meminfo", "MemTotal:        8257536 kB\nMemFree: 1 kB\n")
    write(tmp_path, "proc/loadavg", "0.42 0.30 0.10 1/200 999\n")
    write(tmp_path, "etc/os-release", 'NAME="Debian"\nPRETTY_NAME="Debian GNU/Linux 12"\n')
    write(tmp_path, "proc/sys/kernel/osrelease", "6.6.31\n")
    write(tmp_path, "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "performance\n")
    write(tmp_path, "sys/class/thermal/thermal_zone0/temp", "48200\n")
    write(tmp_path, "sys/class/thermal/thermal_zone1/temp", "51000\n")
    return tmp_path


def test_what_this_machine_tells_is_an_environment():
    environment = Environment(**json.loads(json.dumps(probe())))
    assert environment.cores >= 1
    assert environment.memory_bytes > 0
    assert environment.arch in ("x86_64", "aarch64")
    assert environment.versions["numpy"]


def test_a_board_is_read_from_its_files(pi):
    found = probe(pi, machine="aarch64", affinity=4)
    assert found["machine"] == "Raspberry Pi 5 Model B Rev 1.0"
    assert found["isa"] == ("asimd", "asimdhp", "asimddp")
    assert found["cores"] == 4
    assert found["memory_bytes"] == 8257536 * 1024
    assert found["os"] == "Debian GNU/Linux 12, Linux 6.6.31"
    assert found["governor"] == "performance"
    assert found["load_average"] == 0.42
    assert found["temperature_c"] == 51.0
    assert not found["emulated"]


def test_an_x86_processor_has_a_name_of_its_own(tmp_path):
    write(tmp_path, "proc/cpuinfo", NUC)
    found = probe(tmp_path, machine="x86_64", affinity=1)
    assert (found["machine"], found["isa"]) == ("13th Gen Core", ("avx2", "fma", "avx_vnni"))


def test_what_a_container_may_use_counts(pi):
    write(pi, "sys/fs/cgroup/cpu.max", "200000 100000\n")
    write(pi, "sys/fs/cgroup/memory.max", "1073741824\n")
    found = probe(pi, machine="aarch64", affinity=4)
    assert (found["cores"], found["memory_bytes"]) == (2, 1 << 30)


@pytest.mark.parametrize("text", ["max 100000\n", "50000 100000\n"])
def test_a_container_has_one_core_at_least_and_no_limit_is_none(pi, text):
    write(pi, "sys/fs/cgroup/cpu.max", text)
    write(pi, "sys/fs/cgroup/memory.max", "max\n")
    found = probe(pi, machine="aarch64", affinity=4)
    assert found["cores"] == (4 if text.startswith("max") else 1)
    assert found["memory_bytes"] == 8257536 * 1024


def test_a_machine_that_tells_nothing_is_described_all_the_same(tmp_path):
    found = probe(tmp_path, machine="aarch64", affinity=2)
    assert Environment(**found)
    assert (found["machine"], found["governor"], found["temperature_c"]) == ("aarch64", "unknown", None)


def test_an_emulator_shows_in_a_threads_program(pi):
    (pi / "proc/self/task/7").mkdir(parents=True)
    (pi / "proc/self/task/7/exe").symlink_to("/usr/bin/qemu-aarch64-static")
    assert probe(pi, machine="aarch64", affinity=1)["emulated"]


@pytest.mark.parametrize(("cpuinfo", "machine"), [(NUC, "aarch64"), (PI5, "x86_64")])
def test_an_emulator_shows_in_a_processor_of_another_kind(tmp_path, cpuinfo, machine):
    write(tmp_path, "proc/cpuinfo", cpuinfo)
    assert probe(tmp_path, machine=machine, affinity=1)["emulated"]


def test_what_changes_the_speed_of_a_processor_is_told(tmp_path):
    cpu = "sys/devices/system/cpu"
    for core in (0, 1):
        write(tmp_path, f"{cpu}/cpu{core}/cpufreq/scaling_cur_freq", f"{2_000_000 + core * 800_000}\n")
        write(tmp_path, f"{cpu}/cpu{core}/thermal_throttle/core_throttle_count", f"{core + 1}\n")
        write(tmp_path, f"{cpu}/cpu{core}/thermal_throttle/package_throttle_count", "4\n")
    write(tmp_path, f"{cpu}/intel_pstate/no_turbo", "1\n")
    write(tmp_path, f"{cpu}/smt/active", "1\n")
    found = probe(tmp_path, machine="x86_64", affinity=2)
    assert (found["clock_mhz"], found["throttled"], found["turbo"], found["smt"]) == (2800, 7, False, True)


def test_other_drivers_tell_their_turbo_and_a_jetson_its_power_mode(tmp_path):
    write(tmp_path, "proc/cpuinfo", "cpu MHz\t\t: 1500.5\ncpu MHz\t\t: 1600.25\n")
    write(tmp_path, "sys/devices/system/cpu/cpufreq/boost", "1\n")
    write(tmp_path, "var/lib/nvpmodel/status", "pmode:0002\n")
    found = probe(tmp_path, machine="aarch64", affinity=2)
    assert (found["clock_mhz"], found["throttled"], found["turbo"]) == (1600.25, None, True)
    assert (found["smt"], found["power_mode"]) == (None, "0002")
