from __future__ import annotations

import os
import resource

import pytest

from edgeprune.errors import OutputError
from edgeprune.whole_file import whole, write_whole


def test_a_file_is_whole_or_as_it_was(tmp_path):
    with pytest.raises(OutputError, match="No such file or directory"):
        write_whole(tmp_path / "deep" / "timing", b"one", "")
    write_whole(tmp_path / "deep" / "timing", b"one", "", make_folders=True)
    write_whole(tmp_path / "deep" / "timing", b"two", "")
    assert (tmp_path / "deep" / "timing").read_bytes() == b"two"
    assert len(list((tmp_path / "deep").iterdir())) == 1


@pytest.mark.parametrize("error", [ValueError, OSError, KeyboardInterrupt])
def test_what_fails_leaves_what_was_there_and_nothing_else(tmp_path, error):
    (tmp_path / "file").write_bytes(b"before")

    def fail() -> None:
        with whole(tmp_path / "file") as partial:
            partial.write_bytes(b"half")
            raise error

    with pytest.raises(error):
        fail()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_bytes() == b"before"


def test_a_device_or_a_pipe_is_never_replaced(tmp_path):
    os.mkfifo(pipe := tmp_path / "pipe")
    with pytest.raises(OutputError, match=r"pipe: cannot be written \(it is a device or a pipe\): choose another"):
        write_whole(pipe, b"one", "choose another")
    assert pipe.is_fifo()
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


def test_a_disk_that_is_full_is_told_in_one_line_with_what_to_do(tmp_path):
    """A file larger than RLIMIT_FSIZE allows fails as one on a full disk does, with another number."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, before[1]))
    try:
        with pytest.raises(OutputError, match=r"file: cannot be written \(File too large\): make room") as raised:
            write_whole(tmp_path / "file", b"x" * 9000, "make room")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "\n" not in str(raised.value)
    assert not list(tmp_path.iterdir())
