import time

import pytest

from edgeprune.errors import MissingError
from edgeprune.measure.energy import measure_energy
from edgeprune.meters.ina3221 import Ina3221Meter, rails, total

ORIN_NANO = (("VDD_IN", 5000, 988), ("VDD_CPU_GPU_CV", 5000, 200), ("VDD_SOC", 5000, 300))
AGX_ORIN = (
    (("VDD_GPU_SOC", 19000, 200), ("VDD_CPU_CV", 19000, 50), ("VIN_SYS_5V0", 5000, 800)),
    (("NC", 0, 0), ("VDDQ_VDD2_1V8AO", 5000, 100), ("NC", 0, 0)),
)


@pytest.fixture
def meter():
    opened = []

    def made(root):
        opened.append(Ina3221Meter(root))
        return opened[-1]

    yield made
    for one in opened:
        one.close()


def test_on_orin_nano_the_input_rail_is_the_total(hwmon, meter):
    hwmon.chip("nvme", temp1_input=40)
    hwmon.rails(*ORIN_NANO)
    assert [rail.name for rail in total(rails(hwmon.root))] == ["VDD_IN"]
    assert total(rails(hwmon.root))[0].watts() == pytest.approx(4.94)
    assert meter(hwmon.root).sensor == "INA3221 VDD_IN"


def test_on_agx_orin_all_connected_rails_of_both_chips_together_are(hwmon, meter):
    for chip in AGX_ORIN:
        hwmon.rails(*chip)
    chosen = total(rails(hwmon.root))
    assert [rail.name for rail in chosen] == ["VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0", "VDDQ_VDD2_1V8AO"]
    assert sum(rail.watts() for rail in chosen) == pytest.approx(3.8 + 0.95 + 4.0 + 0.5)
    assert meter(hwmon.root).energy_j() >= 0


def test_the_sum_of_shunt_voltages_is_no_rail(hwmon):
    hwmon.rails(*ORIN_NANO)
    assert {rail.channel for rail in rails(hwmon.root)} == {1, 2, 3}


def test_a_board_without_the_chip_says_so(hwmon):
    hwmon.chip("coretemp", temp1_input=40)
    with pytest.raises(MissingError, match="INA3221: no connected rail"):
        Ina3221Meter(hwmon.root)


def test_a_rail_that_reads_0_is_no_meter(hwmon):
    hwmon.rails(("VDD_IN", 5000, 0))
    with pytest.raises(MissingError, match="VDD_IN reads 0 W"):
        Ina3221Meter(hwmon.root)


def test_a_reading_that_breaks_off_is_told(hwmon, meter):
    chip = hwmon.rails(*ORIN_NANO)
    opened = meter(hwmon.root)
    (chip / "curr1_input").unlink()
    with pytest.raises(MissingError, match=r"curr1_input: No such file or directory \(while measuring\)"):
        opened.energy_j()


@pytest.mark.parametrize("board", [(ORIN_NANO,), AGX_ORIN])
def test_a_board_is_measured_over_a_window_beside_its_idle_power(hwmon, meter, board):
    for rails_ in board:
        hwmon.rails(*rails_)
    whole = sum(rail.watts() for rail in total(rails(hwmon.root)))
    window = measure_energy(lambda: time.sleep(0.002), meter(hwmon.root), seconds=0.2, idle_s=0.1)
    assert window.idle_watts == pytest.approx(whole, rel=0.05)
    assert window.joules_per_run * window.runs / window.seconds == pytest.approx(whole, rel=0.05)


def test_a_sensor_that_dies_midway_in_a_window_is_told(hwmon, meter):
    chip = hwmon.rails(*ORIN_NANO)

    def run():
        (chip / "in1_input").unlink(missing_ok=True)

    with pytest.raises(MissingError, match=r"in1_input: No such file or directory \(while measuring\)"):
        measure_energy(run, meter(hwmon.root), seconds=0.05, idle_s=0.01)
