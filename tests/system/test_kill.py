"""A compile that is killed at any instant, and then run again, ends as one that never was."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.system

KILLS = int(os.environ.get("EDGEPRUNE_KILLS", "10"))
KILLS_PER_CACHE = 4
COMPILE = [sys.executable, "-m", "edgeprune", "compile", "--target", "cpu", "--epochs", "3"]


def start(out: Path, cache: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*COMPILE, "--out", str(out)],
        env=os.environ | {"EDGEPRUNE_CACHE": str(cache)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def finished(cache: Path) -> dict[str, int]:
    """Every finished stage and when it was finished."""
    return {str(path): path.stat().st_mtime_ns for path in cache.glob("*/*/stage.json") if path.parent.suffix == ""}


def children(pid: int) -> set[int]:
    """Process ids of the workers that a compile has started."""
    try:
        return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}
    except FileNotFoundError:
        return set()


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, float]:
    """The hashed core of a run that nobody disturbed, and how many seconds it took."""
    folder = tmp_path_factory.mktemp("unbroken")
    began = time.monotonic()
    run = start(folder / "bundle", folder / "cache")
    _, errors = run.communicate(timeout=300)
    assert run.returncode == 0, errors.decode()
    return (folder / "bundle" / "bundle.json").read_bytes(), time.monotonic() - began


def survives(run: subprocess.Popen[bytes], seconds: float) -> bool:
    """Whether the run ends of itself in that time; else it is killed, and its workers must end too."""
    try:
        run.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        workers = children(run.pid)
        os.kill(run.pid, signal.SIGKILL)
        run.wait()
        deadline = time.monotonic() + 10
        while any(Path(f"/proc/{worker}").exists() for worker in workers):
            assert time.monotonic() < deadline, "a worker outlived the compile that started it"
            time.sleep(0.05)
        return False
    return True


def test_killed_at_random_instants_it_resumes_and_ends_with_the_same_core(unbroken, tmp_path: Path):
    core, seconds = unbroken
    instants = random.Random(20)
    kills, rounds = 0, 0
    while kills < KILLS:
        # a few kills spare all stages but the last ones, so a fresh cache lets the next kills meet the first ones again
        rounds += 1
        out, cache = tmp_path / f"bundle{rounds}", tmp_path / f"cache{rounds}"
        for _ in range(min(KILLS_PER_CACHE, KILLS - kills)):
            before = finished(cache)
            # most of the time is that of the last stage: squared, so that as many kills fall into the others
            if survives(start(out, cache), 0.5 + (seconds - 0.5) * instants.random() ** 2):
                break
            kills += 1
            assert before.items() <= finished(cache).items(), "a finished stage was done again"
            assert not out.exists() or (out / "bundle.json").read_bytes() == core, "a bundle was left half written"
        run = start(out, cache)
        _, errors = run.communicate(timeout=300)
        assert run.returncode == 0, errors.decode()
        assert (out / "bundle.json").read_bytes() == core
        assert not list(tmp_path.glob(".bundle*")), "a killed run's remains lie beside the bundle"
