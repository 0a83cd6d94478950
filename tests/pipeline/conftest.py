from pathlib import Path

import onnx
import pytest
from onnx import parser

from edgeprune.cache import StageCache
from edgeprune.data.splits import resolve_splits
from edgeprune.pipeline.job import Job
from edgeprune.progress import SILENT
from edgeprune.recipe import DataPart, Recipe
from edgeprune.targets.load import load_target


@pytest.fixture
def job(tmp_path: Path):
    """A job on the digits for this machine, its recipe with these changes."""

    def made(target: str = "cpu", **changes) -> Job:
        recipe = Recipe().model_copy(update=changes)
        splits = resolve_splits(DataPart(), trains=False)
        return Job(recipe, load_target(target), splits, StageCache(tmp_path / "cache"), SILENT, None, False)

    return made


@pytest.fixture
def onnx_file(tmp_path: Path):
    """A file with this graph, in the text form of ONNX; digits are [batch, 1, 8, 8] and have 10 classes."""

    def made(body: str) -> Path:
        model = parser.parse_model(f'<ir_version: 8, opset_import: ["" : 20]> main {body}')
        path = tmp_path / "user.onnx"
        onnx.save(model, path)
        return path

    return made
