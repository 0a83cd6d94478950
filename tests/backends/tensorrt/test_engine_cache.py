from __future__ import annotations

import json
import os
import subprocess
from dataclasses import asdict, replace

import pytest

from edgeprune.backends.tensorrt.engine_cache import ENGINE, HEADER, EngineCache, Identity, check_engine
from edgeprune.errors import CorruptError, ModelError, OutputError
from edgeprune.eviction import clean, kept_stages

HERE = Identity(
    model_sha256="ab" * 32,
    tensorrt="10.3.0",
    compute_capability="8.7",
    multiprocessors=8,
    arch="aarch64",
    power_mode="0000",
    flags="{}",
)
OTHER = {
    "model_sha256": "cd" * 32,
    "tensorrt": "10.16.2",
    "compute_capability": "8.9",
    "multiprocessors": 16,
    "arch": "x86_64",
    "power_mode": "0002",
    "flags": '{"builder": {}}',
}


@pytest.fixture
def cache(tmp_path):
    return EngineCache(tmp_path / "tensorrt")


class Builds:
    """Leaves what it is given, and counts."""

    def __init__(self, content=b"an engine" * 1000):
        self.content, self.count = content, 0

    def __call__(self, path):
        self.count += 1
        path.write_bytes(self.content)


def test_an_engine_is_built_once(cache):
    make = Builds()
    (first, found), (second, again) = cache.get(HERE, 100, make), cache.get(HERE, 100, make)
    assert (found, again) == (False, True)
    assert first == second
    assert (first.read_bytes(), make.count) == (make.content, 1)


def test_every_part_of_its_identity_makes_another_engine(cache):
    assert set(OTHER) == set(asdict(HERE))
    keys = {HERE.key} | {replace(HERE, **{name: value}).key for name, value in OTHER.items()}
    assert len(keys) == 1 + len(OTHER)


@pytest.mark.parametrize("name", sorted(OTHER))
def test_an_engine_that_was_built_elsewhere_is_refused_and_what_differs_is_named(cache, name):
    engine, _ = cache.get(HERE, 100, Builds())
    check_engine(engine, HERE)
    with pytest.raises(ModelError, match=f"built elsewhere: its {name} is .*here it is") as raised:
        check_engine(engine, replace(HERE, **{name: OTHER[name]}))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("size", [0, 1, 8999])
def test_a_truncated_engine_is_refused_and_built_again(cache, size):
    engine, _ = cache.get(HERE, 100, Builds())
    os.truncate(engine, size)
    with pytest.raises(CorruptError, match=rf"{size} of 9000 bytes"):
        check_engine(engine, HERE)
    again = Builds()
    assert cache.get(HERE, 100, again)[0].stat().st_size == 9000
    assert again.count == 1


def test_one_wrong_byte_is_found(cache):
    engine, _ = cache.get(HERE, 100, Builds())
    with engine.open("r+b") as file:
        file.seek(4000)
        file.write(b"\0")
    with pytest.raises(CorruptError, match="its hash differs"):
        check_engine(engine, HERE)


@pytest.mark.parametrize(
    "content", [None, b"", b"[]", b'{"schema": 1}', b'{"schema": 1, "identity": {}, "sha256": 0, "bytes": 0}']
)
def test_an_engine_without_a_header_is_refused(cache, content):
    engine, _ = cache.get(HERE, 100, Builds())
    header = engine.with_name(HEADER)
    header.unlink()
    if content is not None:
        header.write_bytes(content)
    with pytest.raises(CorruptError, match="no header says what it was built for"):
        check_engine(engine, HERE)


def test_a_build_that_fails_leaves_nothing_and_the_next_one_works(cache):
    def fail(path):
        path.write_bytes(b"half")
        raise ModelError("no plan")

    with pytest.raises(ModelError, match="no plan"):
        cache.get(HERE, 100, fail)
    assert not list(cache.root.rglob(ENGINE))
    assert not list(cache.root.glob("*.partial"))
    assert cache.get(HERE, 100, Builds())[0].is_file()


def test_without_room_nothing_is_built(cache):
    make = Builds()
    with pytest.raises(OutputError, match=r"MB are free, building takes \d+: make room or set EDGEPRUNE_CACHE"):
        cache.get(HERE, 1 << 60, make)
    assert make.count == 0


def test_a_disk_that_fills_up_while_it_builds_is_told_in_one_line(cache):
    """A file larger than RLIMIT_FSIZE allows fails as one on a full disk does, with another number."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, before[1]))
    try:
        with pytest.raises(OutputError, match=r"cannot be kept \(File too large\): make room") as raised:
            cache.get(HERE, 100, Builds())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "\n" not in str(raised.value)
    assert not list(cache.root.rglob(ENGINE))


@pytest.mark.system
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting takes root")
def test_a_full_disk_is_told_and_leaves_what_was_there(tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", str(small)], capture_output=True, text=True
    )
    if made.returncode:
        pytest.skip(f"a small disk cannot be made here: {made.stderr.strip()}")
    try:
        cache = EngineCache(small / "tensorrt")
        cache.get(HERE, 100, Builds())
        with pytest.raises(OutputError, match="No space left on device"):
            cache.get(replace(HERE, flags="other"), 100, Builds(b"x" * (30 << 20)))
        check_engine(cache.engine(HERE), HERE)
        assert len(list(cache.root.rglob(ENGINE))) == 1
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_the_stage_cache_sees_engines_and_cleans_them(cache):
    cache.get(HERE, 100, Builds())
    cache.timing(HERE).write_bytes(b"times")
    (kept,) = kept_stages(cache.root.parent)
    assert (kept.stage, kept.key) == ("tensorrt", HERE.key)
    assert kept.size_bytes > 9000
    assert len(clean(cache.root.parent, kept.used_at + 1).removed) == 1
    assert cache.timing(HERE).is_file()


def test_the_header_is_plain_json(cache):
    told = json.loads(cache.get(HERE, 100, Builds())[0].with_name(HEADER).read_bytes())
    assert told["identity"] == asdict(HERE)
    assert told["bytes"] == 9000
