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
