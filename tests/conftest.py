"""What tests of several packages need."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


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
    from edgeprune.bench import Settings
    from edgeprune.cache import StageCache
    from edgeprune.pipeline.compile import compile_bundle
    from edgeprune.targets.load import load_target

    folder = tmp_path_factory.mktemp("bundles")
    cache, settings = StageCache(folder / "cache"), Settings(seconds=0.05, restarts=1)
    jobs = {"cpu": ("cpu", 0.5, ("ort",)), "narrow": ("cpu", 0.3, ("ort",)), "jetson": ("jetson", 0.5, None)}
    for name, (target, keep, backends) in jobs.items():
        recipe = recipe_with({"epochs": 1, "max_drop": 100.0, "keep": keep})
        compile_bundle(
            recipe, load_target(target), out=folder / name, backends=backends, cache=cache, settings=settings
        )
    return {name: folder / name for name in jobs}
