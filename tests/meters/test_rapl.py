from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeprune.errors import MissingError
from edgeprune.measure.energy import measure_energy
from edgeprune.meters.rapl import RaplMeter


def write_zone(root, index=0, *, energy_uj, name="package-0", range_uj=999_999):
    zone = root / f"sys/class/powercap/intel-rapl:{index}"
    zone.mkdir(parents=True, exist_ok=True)
    (zone / "name").write_text(f"{name}\n")
    (zone / "energy_uj").write_text(f"{energy_uj}\n")
    (zone / "max_energy_range_uj").write_text(f"{range_uj}\n")
    return zone


def test_energy_counts_from_when_it_was_opened(tmp_path):
    write_zone(tmp_path, energy_uj=100_000)
    meter = RaplMeter(tmp_path)
    assert meter.energy_j() == 0
    write_zone(tmp_path, energy_uj=350_000)
    assert meter.energy_j() == pytest.approx(0.25)


def test_energy_counts_on_through_a_counter_wrap(tmp_path):
    write_zone(tmp_path, energy_uj=900_000)
    meter = RaplMeter(tmp_path)
    write_zone(tmp_path, energy_uj=100_000)
    assert meter.energy_j() == pytest.approx(0.2, abs=1e-5)
    write_zone(tmp_path, energy_uj=300_000)
    assert meter.energy_j() == pytest.approx(0.4, abs=1e-5)


def test_packages_add_up_and_their_parts_do_not_count_twice(tmp_path):
    write_zone(tmp_path, 0, energy_uj=1)
    write_zone(tmp_path, 1, energy_uj=1, name="package-1")
    write_zone(tmp_path, 2, energy_uj=1, name="psys")
    meter = RaplMeter(tmp_path)
    for index, name in enumerate(("package-0", "package-1", "psys")):
        write_zone(tmp_path, index, energy_uj=100_001, name=name)
    assert meter.energy_j() == pytest.approx(0.2)
    assert meter.sensor == "RAPL package-0 + package-1"


def test_a_machine_without_counters_says_so(tmp_path):
    with pytest.raises(MissingError, match="RAPL: no processor package"):
        RaplMeter(tmp_path)


def test_a_counter_that_reads_zero_is_no_counter(tmp_path):
    write_zone(tmp_path, energy_uj=0)
    with pytest.raises(MissingError, match="reads 0"):
        RaplMeter(tmp_path)


def test_a_counter_that_holds_no_number_is_told(tmp_path):
    write_zone(tmp_path, energy_uj="N/A")
    with pytest.raises(MissingError, match="energy_uj holds no number"):
        RaplMeter(tmp_path)


def test_a_counter_that_cannot_be_opened_is_told(tmp_path):
    (write_zone(tmp_path, energy_uj=1) / "energy_uj").unlink()
    with pytest.raises(MissingError, match="energy_uj: No such file"):
        RaplMeter(tmp_path)


@pytest.fixture
def laptop(tmp_path):
    """What a Core processor shows: links into devices, a package with parts, the board, and a second interface."""
    devices, folder = tmp_path / "sys/devices/virtual/powercap", tmp_path / "sys/class/powercap"
    folder.mkdir(parents=True)
    zones = {
        "intel-rapl": None,
        "intel-rapl:0": "package-0",
        "intel-rapl:0:0": "core",
        "intel-rapl:0:1": "uncore",
        "intel-rapl:1": "psys",
        "intel-rapl-mmio": None,
        "intel-rapl-mmio:0": "package-0",
    }
    for zone, name in zones.items():
        place = devices / zone
        place.mkdir(parents=True)
        (place / "enabled").write_text("1\n")
        if name:
            for file, content in {"name": name, "energy_uj": 262_143_000_000, "max_energy_range_uj": MAX_UJ}.items():
                (place / file).write_text(f"{content}\n")
        (folder / zone).symlink_to(place, target_is_directory=True)

    def count(zone, microjoules):
        (devices / zone / "energy_uj").write_text(f"{microjoules}\n")

    return tmp_path, count


MAX_UJ = 262_143_328_850
"""What such a processor has as `max_energy_range_uj`."""


def test_of_a_laptop_the_package_alone_counts_through_its_wrap(laptop):
    root, count = laptop
    meter = RaplMeter(root)
    assert meter.sensor == "RAPL package-0"
    count("intel-rapl:0:0", 0)
    count("intel-rapl:1", 0)
    count("intel-rapl:0", 171_150)
    assert meter.energy_j() == pytest.approx(0.5)


def test_a_wrap_midway_in_a_window_is_no_loss(laptop):
    root, count = laptop
    meter, drawn = RaplMeter(root), iter(range(0, 10**9, 100_000))

    def run():  # a tenth of a joule
        count("intel-rapl:0", (262_143_000_000 + next(drawn) + 100_000) % (MAX_UJ + 1))

    time = iter(np.arange(0, 1000, 0.25))
    window = measure_energy(run, meter, seconds=10, idle_s=0, clock=lambda: float(next(time)), sleep=lambda _: None)
    assert window.joules_per_run == pytest.approx(0.1, rel=1e-3)


def test_a_counter_that_dies_midway_in_a_window_is_told(laptop):
    root, _ = laptop

    def run():
        (root / "sys/devices/virtual/powercap/intel-rapl:0/energy_uj").unlink(missing_ok=True)

    with pytest.raises(MissingError, match=r"energy_uj: No such file or directory"):
        measure_energy(run, RaplMeter(root), seconds=0.01, idle_s=0)


def test_a_counter_that_only_root_may_read_says_how_to_open_it(laptop, monkeypatch):
    root, _ = laptop
    read = Path.read_text

    def refused(path, *args, **kwargs):  # root, as which tests may run, is refused nothing
        if path.name == "energy_uj":
            raise PermissionError(13, "Permission denied", str(path))
        return read(path, *args, **kwargs)

    monkeypatch.setattr(Path, "read_text", refused)
    with pytest.raises(MissingError, match=r"may only be read by root: sudo chmod a\+r"):
        RaplMeter(root)
