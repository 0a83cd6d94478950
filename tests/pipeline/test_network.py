import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from edgeprune.data.pixels import Pixels
from edgeprune.errors import DataError
from edgeprune.models.zoo import build
from edgeprune.pipeline import network
from edgeprune.recipe import TrainPart


@pytest.fixture
def given(job, tmp_path):
    """ResNet-20 with weights whose statistics are those of the digits, as a file of the user's."""
    trains = job(model="resnet20", train=TrainPart(epochs=1))
    model = build("resnet20", trains.arguments)
    images = torch.from_numpy(trains.tensors("calibrate", 256)["image"])
    with torch.no_grad():
        for _ in range(60):
            model.train()(images)
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    return job(model="resnet20", weights=tmp_path / "weights.safetensors")


def test_samples_of_the_training_are_near(given):
    assert network.check_suited(given, network.train(given)) < 0.05


def test_samples_at_another_scale_are_refused(given):
    wrong = replace(given.splits, preprocess=Pixels((8, 8), 255, (0.307,), (0.376,)))
    scaled = replace(given, splits=wrong)
    with pytest.raises(
        DataError, match=r"digits: the calibration samples are not like those that resnet20 was trained"
    ):
        network.check_suited(scaled, network.train(scaled))


def test_random_weights_refuse_nothing(given):
    untrained = replace(given, untrained=True)
    assert network.check_suited(untrained, network.train(untrained)) is None


def test_a_network_that_was_hardly_trained_here_is_held_against_its_training_samples(job):
    hardly = job(model="mobilenetv2", train=TrainPart(epochs=1, batch=512))  # three steps
    assert network.check_suited(hardly, network.train(hardly)) > network.MOST_MISMATCH


def test_a_network_without_batch_normalization_cannot_tell(job):
    plain = job(model="lenet5", train=TrainPart(epochs=1))
    assert network.check_suited(plain, network.train(plain)) is None


def test_what_the_epochs_of_a_stage_took_is_told_also_where_they_were_begun_again(job):
    stage = network.train(job(model="lenet5", train=TrainPart(epochs=2)))
    first, second = [json.loads(line) for line in (stage.folder / network.EPOCHS).read_text().splitlines()]
    assert (first["index"], second["index"]) == (0, 1)
    assert network.training_seconds(stage) == first["seconds"] + second["seconds"]
    with (stage.folder / network.EPOCHS).open("a") as told:
        print(json.dumps(second | {"seconds": 7.0}), file=told)
    assert network.training_seconds(stage) == first["seconds"] + 7
