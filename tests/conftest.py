"""What tests of several packages need, and what CI requires of system tests.

Under EDGEPRUNE_REQUIRE a test with the mark `system` that would be left out fails: CI must not pass because a server
was missing. The variable is `all`, or names of test files without `test_` and `.py`, separated by commas.
"""

from __future__ import annotations

import fcntl
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Generator
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if item.get_closest_marker("system"):
        _refuse_a_skip(report, item.path)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if report.skipped and "mark.system" in collector.path.read_text(
        encoding="utf-8"
    ):  # it was left before it had marks
        _refuse_a_skip(report, collector.path)
    return report


def _refuse_a_skip(report: pytest.TestReport | pytest.CollectReport, path: Path) -> None:
    required = os.environ.get("EDGEPRUNE_REQUIRE", "").split(",")
    if report.skipped and not hasattr(report, "wasxfail") and {"all", path.stem.removeprefix("test_")} & set(required):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"EDGEPRUNE_REQUIRE does not allow this: {reason}"


@pytest.fixture(scope="session", autouse=True)
def hearing() -> None:
    """A shell starts what runs in its background deaf to Ctrl-C, and children inherit that; tests send signals."""
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, handler)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with the real data sets as Parquet files; without one the test is skipped."""
    root = os.environ.get("EDGEPRUNE_DATA")
    if not root:
        pytest.skip("EDGEPRUNE_DATA is not set")
    return Path(root)


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Real bundles of the digits after one epoch: `cpu`, `narrow` (fewer channels), `jetson` (cannot run here)."""
    from edgeprune.api import recipe_with
    from edgeprune.cache import StageCache
    from edgeprune.interleaved.settings import Settings
    from edgeprune.pipeline.compile import compile_bundle
    from edgeprune.targets.load import load_target

    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "bundles"  # of all workers of one run
    cache, settings = StageCache(folder / "cache"), Settings(seconds=0.05, restarts=6)
    jobs = {"cpu": ("cpu", 0.5, ("ort",)), "narrow": ("cpu", 0.3, ("ort",)), "jetson": ("jetson", 0.5, None)}
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for name, (target, keep, backends) in jobs.items():
            if (folder / name).exists():
                continue
            recipe = recipe_with({"epochs": 1, "max_drop": 100.0, "keep": keep})
            compile_bundle(
                recipe, load_target(target), out=folder / name, backends=backends, cache=cache, settings=settings
            )
    return {name: folder / name for name in jobs}


@pytest.fixture(scope="session")
def python310():
    """A Python 3.10 with NumPy and ONNX Runtime: `EDGEPRUNE_PYTHON310`, or `python3.10` on the path."""
    python = os.environ.get("EDGEPRUNE_PYTHON310") or shutil.which("python3.10")
    if python is None:
        pytest.skip("no Python 3.10 here: set EDGEPRUNE_PYTHON310 to one with numpy and onnxruntime")
    try:
        subprocess.run(
            [python, "-c", "import sys, numpy, onnxruntime; sys.exit(sys.version_info[:2] != (3, 10))"],
            check=True,
            capture_output=True,
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip(f"{python} is no Python 3.10 with numpy and onnxruntime")
    return python


@pytest.fixture(scope="session")
def program() -> Callable[[str], ModuleType]:
    """A program of `benchmarks/` as a module, by its name."""

    def loaded(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        if str(BENCHMARKS) not in sys.path:  # some import others, as where they are started
            sys.path.append(str(BENCHMARKS))
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # where dataclasses look up their annotations
        spec.loader.exec_module(module)
        return module

    return loaded
