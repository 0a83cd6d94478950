"""With the library itself where it is; what a card answers is replayed, for there is none on most machines."""

from types import SimpleNamespace

import pytest

from edgeprune.errors import MissingError
from edgeprune.meters.nvml import NvmlMeter, NvmlUse


class Library:
    """What pynvml offers, answering from a list of counters per card, in millijoules."""

    class NVMLError(Exception):
        pass

    def __init__(self, *cards, fails_after=None):
        self.cards, self.calls, self.fails_after, self.open = cards, 0, fails_after, False

    def nvmlInit(self):  # noqa: N802
        self.open = True

    def nvmlShutdown(self):  # noqa: N802
        self.open = False

    def nvmlDeviceGetCount(self):  # noqa: N802
        return len(self.cards)

    def nvmlDeviceGetHandleByIndex(self, index):  # noqa: N802
        return index

    def nvmlDeviceGetName(self, card):  # noqa: N802
        return b"a card"

    def nvmlDeviceGetTotalEnergyConsumption(self, card):  # noqa: N802
        self.calls += 1
        if self.fails_after is not None and self.calls > self.fails_after:
            raise self.NVMLError("Not Supported")
        return self.cards[card] + 1000 * (self.calls - 1)

    def nvmlDeviceGetUtilizationRates(self, card):  # noqa: N802
        if self.fails_after is not None:
            raise self.NVMLError("Not Supported")
        return SimpleNamespace(gpu=10 * (card + 1))


def test_millijoules_count_from_when_it_was_opened():
    library = Library(5_000_000)
    meter = NvmlMeter(library)
    assert meter.energy_j() == pytest.approx(1)
    assert meter.energy_j() == pytest.approx(2)
    assert meter.sensor == "NVML a card"
    meter.close()
    assert not library.open


@pytest.mark.parametrize(
    ("library", "said"),
    [
        (Library(), "no card"),
        (Library(0), "reads 0"),
        (Library(1, fails_after=0), "Not Supported"),
    ],
)
def test_a_library_that_answers_without_energy_is_no_meter(library, said):
    with pytest.raises(MissingError, match=said):
        NvmlMeter(library)


def test_a_card_that_stops_answering_is_told():
    meter = NvmlMeter(Library(1_000, fails_after=1))
    with pytest.raises(MissingError, match=r"Not Supported \(while measuring\)"):
        meter.energy_j()


def test_without_the_bindings_or_a_driver_it_says_so():
    with pytest.raises(MissingError, match="NVML"):
        NvmlMeter()


def test_the_busiest_card_tells_the_use():
    assert NvmlUse(Library(1, 1, 1)).share() == 0.3
    for library in (Library(), Library(1, fails_after=0)):
        with pytest.raises(MissingError, match=r"no card|Not Supported"):
            NvmlUse(library)
