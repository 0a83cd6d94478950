import time

import pytest

from edgeprune.errors import MissingError
from edgeprune.measure.energy import measure_energy
from edgeprune.meters.ina238 import Ina238Meter


def test_on_thor_the_chip_tells_the_power_of_the_input(hwmon):
    hwmon.chip("ina238", power1_input=1_000_000, in1_label="VDD_SOC")
    hwmon.chip("ina238", power1_input=12_500_000, in1_label="VIN")
    meter = Ina238Meter(hwmon.root)
    meter.close()
    assert meter.sensor == "INA238 VIN"
    assert meter._last_w == pytest.approx(12.5)


def test_a_single_chip_needs_no_name(hwmon):
    hwmon.chip("ina238", power1_input=3_000_000)
    meter = Ina238Meter(hwmon.root)
    meter.close()
    assert meter.sensor == "INA238 board input"


def test_several_without_an_input_are_not_guessed_between(hwmon):
    hwmon.chip("ina238", power1_input=1, in1_label="VDD_A")
    hwmon.chip("ina238", power1_input=1, in1_label="VDD_B")
    with pytest.raises(MissingError, match=r"2 of them \(VDD_A, VDD_B\), none is called VIN"):
        Ina238Meter(hwmon.root)


@pytest.mark.parametrize(("content", "said"), [(0, "reads 0 W"), ("N/A", "holds 'N/A', no number")])
def test_what_reads_nothing_is_no_meter(hwmon, content, said):
    hwmon.chip("ina238", power1_input=content, in1_label="VIN")
    with pytest.raises(MissingError, match=said):
        Ina238Meter(hwmon.root)


def test_a_board_without_the_chip_says_so(hwmon):
    with pytest.raises(MissingError, match="INA238: none in"):
        Ina238Meter(hwmon.root)


def test_on_thor_the_input_stands_among_rails_of_other_chips(hwmon):
    hwmon.rails(("VDD_GPU", 20_000, 300), ("VDD_CPU_SOC_MSS", 20_000, 200), ("VIN_SYS_5V0", 5_000, 900))
    hwmon.chip("ina238", power1_input=25_000_000, in0_input=1, in1_input=20_000, curr1_input=1_250, power1_label="VIN")
    meter = Ina238Meter(hwmon.root)
    window = measure_energy(lambda: time.sleep(0.002), meter, seconds=0.2, idle_s=0.05)
    meter.close()
    assert meter.sensor == "INA238 VIN"
    assert window.idle_watts == pytest.approx(25, rel=0.05)
    assert window.joules_per_run * window.runs / window.seconds == pytest.approx(25, rel=0.05)
