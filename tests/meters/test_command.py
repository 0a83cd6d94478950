import shlex
import sys
import time

import pytest

from edgeprune.errors import MissingError
from edgeprune.meters.command import VARIABLE, CommandMeter
from edgeprune.meters.meter import detect


def printing(program: str) -> str:
    """A command line that runs this Python program."""
    return shlex.join([sys.executable, "-u", "-c", program])


STEADY = "import time\nfor i in range(1000):\n    print(i * 0.01, 5.0)\n    time.sleep(0.01)"


@pytest.fixture
def meter():
    opened = []

    def made(program):
        opened.append(CommandMeter(printing(program)))
        return opened[-1]

    yield made
    for one in opened:
        one.close()


def wait_for(holds):
    until = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_readings_are_summed_over_the_clock_of_the_command(meter):
    opened = meter("import time\nprint(100, 2)\nprint(102, 4)\nprint(103, 4)\ntime.sleep(60)")
    wait_for(lambda: opened.energy_j() == pytest.approx(6 + 4))
    assert opened.sampling_hz == pytest.approx(2 / 3)


def test_a_command_of_the_user_comes_before_the_meters_of_the_target(monkeypatch):
    monkeypatch.setenv(VARIABLE, printing(STEADY))
    opened = detect(["rapl"])
    wait_for(lambda: opened.energy_j() > 0.2)
    opened.close()
    assert opened.sensor.startswith("external meter")
    assert 50 < opened.sampling_hz < 150


def test_a_closed_meter_leaves_no_process(meter):
    opened = meter(STEADY)
    opened.close()
    assert opened._child.poll() is not None


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("print('hello')", "printed 'hello', not `seconds watts`"),
        ("print('0 nan')", "not two finite numbers"),
        ("raise SystemExit(3)", "ended with 3"),
    ],
)
def test_what_is_no_meter_says_why(program, said):
    with pytest.raises(MissingError, match=said):
        CommandMeter(printing(program))


def test_a_silent_command_is_not_waited_for_for_ever():
    with pytest.raises(MissingError, match="printed nothing in"):
        CommandMeter(printing("import time; time.sleep(60)"), first_s=0.3)


def test_a_command_that_is_not_there_is_named():
    with pytest.raises(MissingError, match="external meter no-such-meter: cannot be started"):
        CommandMeter("no-such-meter --fast")


def test_without_a_command_the_variable_is_named(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(MissingError, match=VARIABLE):
        CommandMeter()


@pytest.mark.parametrize(
    ("then", "said"), [("", "ended with 0"), ("\nprint(1, 5)", "went back"), ("\nprint('oops')", "oops")]
)
def test_a_meter_that_dies_midway_is_told(meter, then, said):
    opened = meter(f"import time\nprint(10, 5)\ntime.sleep(0.1){then}")
    wait_for(lambda: opened._fault)
    with pytest.raises(MissingError, match=f"{said}.*while measuring"):
        opened.energy_j()


def test_a_meter_that_falls_silent_midway_is_told_not_taken_for_one_that_needs_nothing():
    program = "import time\nfor i in range(20):\n    print(i * 0.01, 5)\n    time.sleep(0.01)\ntime.sleep(60)"
    opened = CommandMeter(printing(program), silent_s=0.3)
    try:
        time.sleep(1.5)
        with pytest.raises(MissingError, match=r"printed nothing for .* \(while measuring\)"):
            opened.energy_j()
    finally:
        opened.close()


def test_a_slow_meter_is_not_taken_for_a_silent_one():
    opened = CommandMeter(
        printing("import time\nfor i in range(50):\n    print(i, 5)\n    time.sleep(0.3)"), silent_s=0.1
    )
    try:
        wait_for(lambda: opened._readings > 2)
        assert opened.energy_j() >= 10
    finally:
        opened.close()


def test_bytes_that_are_no_text_are_told():
    with pytest.raises(MissingError, match="not `seconds watts`"):
        CommandMeter(printing("import sys; sys.stdout.buffer.write(bytes([255, 254, 10])); sys.stdout.flush()"))


def test_a_line_with_a_quote_too_few_is_told():
    with pytest.raises(MissingError, match="EDGEPRUNE_METER is no command line"):
        CommandMeter("meter --port 'usb")
