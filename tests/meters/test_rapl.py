from __future__ import annotations

import pytest

from edgeprune.errors import MissingError
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
