import pytest

from edgeprune.cache import StageCache
from edgeprune.errors import OutputError
from edgeprune.pipeline.compile import prepare, stages
from edgeprune.pipeline.forecast import forecast
from edgeprune.recipe import PrunePart, Recipe, TrainPart
from edgeprune.targets.load import load_target

RECIPE = Recipe(train=TrainPart(epochs=3, recover_epochs=1), prune=PrunePart(keep=0.5))


@pytest.fixture
def foreseen(tmp_path):
    """The forecast of this recipe, with a cache that stays."""

    def made(recipe=RECIPE, target="cpu", **options):
        cache = StageCache(tmp_path / "cache")
        given = {"backends": None, "speed_only": False} | options
        return forecast(recipe, load_target(target), out=tmp_path / "out", cache=cache, **given)

    return made


def test_nothing_is_made(foreseen, tmp_path):
    found = foreseen()
    assert [stage.name for stage in found.stages][:2] == ["train", "export"]
    assert not any(stage.done for stage in found.stages)
    assert not list(tmp_path.rglob("*.safetensors"))
    assert not (tmp_path / "out").exists()


def test_training_is_timed_and_counted_as_often_as_it_is_still_to_do(foreseen, tmp_path):
    before = foreseen()
    assert before.epochs == 4
    assert before.epoch_seconds > 0
    stages(prepare(RECIPE, load_target("cpu"), None, StageCache(tmp_path / "cache")))
    after = foreseen()
    assert after.epochs == 0
    assert after.epoch_seconds is None
    assert all(stage.done for stage in after.stages if stage.name != "bundle")


def test_the_room_of_a_bundle_is_that_of_its_weights_in_each_variant(foreseen):
    one, more = foreseen(backends=("ort",), speed_only=True), foreseen(speed_only=True)
    assert one.variants == ("ort-fp32", "ort-int8")
    assert one.disk_bytes == one.parameters * (4 + 4 + 1)
    assert more.disk_bytes > one.disk_bytes


def test_what_is_not_here_is_not_measured(foreseen):
    assert foreseen(target="jetson", speed_only=True).measure_seconds is None
    assert foreseen(speed_only=True).measure_seconds > 0


def test_a_place_that_compile_would_refuse_is_refused(foreseen, tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(OutputError):
        foreseen(speed_only=True)
