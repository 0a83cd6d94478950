from __future__ import annotations

import mmap
import sys

import pytest

from edgeprune.measure.memory import lower_mark, peak_bytes, resident_bytes

MB = 1 << 20


def write_status(proc, **fields_kb):
    lines = [f"{name}:\t{value} kB" for name, value in fields_kb.items()]
    (proc / "status").write_text("Name:\tpython\n" + "\n".join(lines) + "\n")


def take_and_give_back(size):
    """Of the system: what is allocated may lie where earlier tests left room, and is resident already."""
    with mmap.mmap(-1, size) as block:
        for page in range(0, size, mmap.PAGESIZE):
            block[page] = 1


def test_the_fields_are_in_kibibytes(tmp_path):
    write_status(tmp_path, VmHWM=2048, VmRSS=1024)
    assert peak_bytes(tmp_path) == 2 * MB
    assert resident_bytes(tmp_path) == MB


def test_a_status_without_the_field_is_an_error(tmp_path):
    write_status(tmp_path, VmRSS=1)
    with pytest.raises(ValueError, match="VmHWM"):
        peak_bytes(tmp_path)


def test_where_the_mark_cannot_be_lowered_it_says_so(tmp_path):
    assert not lower_mark(tmp_path / "nowhere")


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux'")
def test_the_peak_counts_what_was_given_back():
    lower_mark()
    before = resident_bytes()
    take_and_give_back(64 * MB)
    assert peak_bytes() - before > 60 * MB


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux'")
def test_a_lowered_mark_forgets_the_peak_before_it():
    take_and_give_back(64 * MB)
    if not lower_mark():
        pytest.skip("clear_refs may not be written here")
    assert peak_bytes() - resident_bytes() < 32 * MB
