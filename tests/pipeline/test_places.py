import json
import shutil

import numpy as np
import onnx
import pytest
from onnx import parser

from edgeprune.bundle import open_bundle
from edgeprune.cache import StageCache
from edgeprune.errors import ConfigError, CorruptError, DataError, InputError
from edgeprune.interleaved.settings import Settings
from edgeprune.pipeline.compile import compile_bundle
from edgeprune.pipeline.measure import measure_bundle
from edgeprune.pipeline.places import located_data, portable
from edgeprune.recipe import DataPart, QuantizePart, Recipe, Rows
from edgeprune.targets.load import load_target

QUICK = Settings(restarts=1, rounds=1, seconds=0.01, warm_min_s=0, warm_max_s=0.01)
SCORE = "def right(outputs, labels):\n    return float((outputs['y'].argmax(axis=1) == labels).mean())\n"
GRAPH = """<ir_version: 8, opset_import: ["" : 20]> main (float[n, 4] x) => (float[n, 2] y)
    <float[4, 2] w = {0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8}> { y = MatMul(x, w) }"""


def write_files(folder):
    """A graph, arrays and a metric of the user's own."""
    folder.mkdir()
    (folder / "score.py").write_text(SCORE)
    onnx.save(parser.parse_model(GRAPH), folder / "net.onnx")
    x = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    np.savez(folder / "rows.npz", x=x, label=(x[:, 0] > 0).astype(np.int64))


@pytest.fixture
def compiled(tmp_path, monkeypatch):
    """Compile in a folder of this name, where all that the user gives lies, and go elsewhere."""

    def made(name="home", recipe=None):
        write_files(tmp_path / name)
        monkeypatch.chdir(tmp_path / name)
        data = DataPart(name="rows.npz", metric="score.py:right")
        recipe = recipe or Recipe(model="net.onnx", data=data, quantize=QuantizePart(precision="fp32"))
        out, cache = tmp_path / f"{name}-out", StageCache(tmp_path / f"{name}-cache")
        bundle, _ = compile_bundle(
            recipe, load_target("cpu"), out=out, backends=("ort",), cache=cache, settings=QUICK, speed_only=False
        )
        monkeypatch.chdir(tmp_path)
        return bundle

    return made


@pytest.fixture
def measured(tmp_path):
    """Measure anew."""

    def run(bundle, **where):
        return measure_bundle(bundle, cache=StageCache(tmp_path / "again", again=True), settings=QUICK, **where)

    return run


def test_a_bundle_of_the_users_own_data_and_metric_is_measured_from_any_folder(compiled, measured):
    found = measured(compiled())
    assert [one.metric for one in found.baseline.accuracy] == ["right", "right"]


def test_what_was_moved_is_missed_in_one_line_and_found_where_an_option_says(compiled, measured, tmp_path):
    bundle = compiled()
    shutil.move(tmp_path / "home", tmp_path / "away")
    with pytest.raises(InputError, match=r"home/rows.npz: not there, .*: edgeprune bench .*home-out --data DIR$"):
        measured(bundle)
    data, metric = str(tmp_path / "away" / "rows.npz"), "away/score.py:right"
    with pytest.raises(InputError, match=r"home/score.py: not there, .* --metric FILE.py:right$"):
        measured(bundle, data=data)
    measured(bundle, data=data, metric=metric)
    other = np.random.default_rng(1).normal(size=(60, 4)).astype(np.float32)
    np.savez(data, x=other, label=np.arange(60) % 2)
    with pytest.raises(DataError, match="are not those it was made with"):
        measured(bundle, data=data, metric=metric)


def test_equal_inputs_give_equal_bundles_wherever_they_lie(compiled):
    assert compiled("one").sha256 == compiled("other").sha256


def test_an_option_that_the_bundle_has_no_use_for_is_refused(compiled, measured):
    bundle = compiled()
    with pytest.raises(ConfigError, match=r"--metric score.py:other: .* is judged by right"):
        measured(bundle, metric="score.py:other")
    whole = Recipe(model="net.onnx", data=DataPart(name="rows.npz"), quantize=QuantizePart(precision="fp32"))
    with pytest.raises(ConfigError, match=r"--metric score.py:right: .* is judged by top1"):
        measured(compiled("plain", whole), metric="score.py:right")


def test_data_that_go_by_their_name_are_nowhere_else(bundles):
    with pytest.raises(ConfigError, match=r"--data photos: .* was made with digits"):
        located_data(open_bundle(bundles["cpu"]), "photos")


def test_a_damaged_note_of_places_is_told(compiled):
    bundle = compiled()
    (bundle.root / "places.json").write_text("[")
    with pytest.raises(CorruptError, match=r"places.json: damaged: remove it"):
        located_data(bundle)


def test_a_recipe_keeps_the_names_of_files_and_no_folder(tmp_path):
    data = DataPart(
        name=f"{tmp_path}/photos",
        metric="own/score.py:right",
        calibration="sets/mine.yaml",
        preprocess=tmp_path / "p.yaml",
        vocabulary=tmp_path / "vocab",
        select=Rows(source=f"{tmp_path}/photos:val"),
        report=Rows(source="cifar10:test"),
        also_report={"dim": Rows(source="dim/photos:val"), "own": Rows(source=f"{tmp_path}/mnist:test")},
    )
    recipe = portable(Recipe(model="nets/net.py:small", weights=tmp_path / "w.safetensors", data=data))
    assert (recipe["model"], recipe["weights"]) == ("net.py:small", "w.safetensors")
    found = recipe["data"]
    named = {key: found[key] for key in ("metric", "calibration", "preprocess", "vocabulary")}
    assert named == {
        "metric": "score.py:right",
        "calibration": "mine.yaml",
        "preprocess": "p.yaml",
        "vocabulary": "vocab",
    }
    # Two folders of one name, and one that is called like a known set, would be taken for each other.
    assert found["name"] == f"{tmp_path}/photos"
    assert found["select"]["source"] == f"{tmp_path}/photos:val"
    assert found["report"]["source"] == "cifar10:test"
    assert found["also_report"]["own"]["source"] == f"{tmp_path}/mnist:test"
    alone = portable(Recipe(data=DataPart(name=f"{tmp_path}/photos")))
    assert alone["data"]["name"] == "photos"
    assert json.dumps(alone)
