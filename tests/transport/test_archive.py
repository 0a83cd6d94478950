from __future__ import annotations

import io
import tarfile

import pytest

from edgeprune.errors import DeviceError
from edgeprune.transport.archive import unpack


def archive(*members):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as file:
        for name, kind, content in members:
            member = tarfile.TarInfo(name)
            member.type, member.size = kind, len(content)
            if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
                member.linkname, member.size = "/etc/passwd", 0
            file.addfile(member, io.BytesIO(content))
    return stream.getvalue()


GOOD = archive(("./", tarfile.DIRTYPE, b""), ("./a", tarfile.REGTYPE, b"one"), ("./b/c", tarfile.REGTYPE, b"2" * 3000))


def everything(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_files_and_folders_come_out(tmp_path):
    unpack(io.BytesIO(GOOD), tmp_path / "out")
    assert everything(tmp_path / "out") == {"a": b"one", "b/c": b"2" * 3000}


@pytest.mark.parametrize(
    ("name", "kind", "said"),
    [
        ("/etc/evil", tarfile.REGTYPE, "leads out of its folder"),
        ("../evil", tarfile.REGTYPE, "leads out of its folder"),
        ("a/../../evil", tarfile.REGTYPE, "leads out of its folder"),
        ("a/..", tarfile.DIRTYPE, "leads out of its folder"),
        ("link", tarfile.SYMTYPE, "neither a file nor a folder"),
        ("link", tarfile.LNKTYPE, "neither a file nor a folder"),
        ("null", tarfile.CHRTYPE, "neither a file nor a folder"),
        ("pipe", tarfile.FIFOTYPE, "neither a file nor a folder"),
    ],
)
def test_a_member_that_could_reach_something_else_is_refused(tmp_path, name, kind, said):
    (tmp_path / "out").mkdir()
    with pytest.raises(DeviceError, match=said):
        unpack(io.BytesIO(archive((name, kind, b""))), tmp_path / "out")
    assert [path.name for path in tmp_path.rglob("*")] == ["out"]


def test_its_size_is_bounded_before_anything_is_written(tmp_path):
    with pytest.raises(DeviceError, match="more than 3002 bytes"):
        unpack(io.BytesIO(GOOD), tmp_path, most_bytes=3002)
    assert everything(tmp_path) == {"a": b"one"}
    with pytest.raises(DeviceError, match="or 1 files"):
        unpack(io.BytesIO(GOOD), tmp_path / "other", most_files=1)


@pytest.mark.parametrize("content", [b"rubbish" * 1000, b"\x1f\x8b" + b"x" * 2000])
def test_what_is_no_archive_is_refused(tmp_path, content):
    with pytest.raises(DeviceError, match="damaged or cut off"):
        unpack(io.BytesIO(content), tmp_path)


def test_cut_off_anywhere_it_is_refused_or_holds_whole_files(tmp_path):
    whole = {"a": b"one", "b/c": b"2" * 3000}
    for length in range(0, len(GOOD), 97):
        out = tmp_path / str(length)
        out.mkdir()
        try:
            unpack(io.BytesIO(GOOD[:length]), out)
        except DeviceError:
            continue
        assert everything(out).items() <= whole.items()
