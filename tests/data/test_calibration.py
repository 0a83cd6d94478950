from __future__ import annotations

import pytest

from edgeprune import shipped
from edgeprune.data.calibration import content_hash, load_calibration, verify
from edgeprune.data.datasets import KNOWN, describe, read
from edgeprune.data.samples import Answer, Samples, objects
from edgeprune.errors import ConfigError, DataError, UnknownNameError


def test_the_digits_are_those_the_set_was_made_with():
    samples = verify(load_calibration("digits"), describe("digits"))
    assert len(samples) == 256


@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_the_shared_data_are_those_the_sets_were_made_with(shared_data, name):
    assert len(verify(load_calibration(name), describe(name), root=shared_data)) == 512


@pytest.mark.parametrize("name", shipped.names("calibration"))
def test_a_set_is_the_calibrate_split_of_its_data(name):
    calibration = load_calibration(name)
    info = describe(calibration.data)
    assert info.calibration == calibration.name == name
    assert info.splits["calibrate"] == calibration.rows


def test_the_sets_that_data_sets_name_are_those_that_are_shipped():
    assert {info.calibration for info in KNOWN.values() if info.calibration} == set(shipped.names("calibration"))


def test_other_samples_are_refused(tmp_path):
    path = tmp_path / "mine.yaml"
    text = shipped.find("calibration", "digits").read_text(encoding="utf-8")
    path.write_text(text.replace("stop: 256", "stop: 255"))
    with pytest.raises(DataError, match="are not the samples it was made with"):
        verify(load_calibration(str(path)), describe("digits"))


def test_a_changed_label_changes_the_hash():
    samples = read(load_calibration("digits").rows, describe("digits"))
    before = content_hash(samples)
    labels = samples.labels.copy()
    labels[3] += 1
    assert content_hash(Samples(samples.columns, labels)) != before


def test_the_hash_of_text_is_of_its_letters_and_answers():
    def of(text, answer):
        return content_hash(Samples({"text": objects([text])}, objects([(Answer(answer, 0),)])))

    assert len({of("ab", "a"), of("ac", "a"), of("ab", "b"), of("a", "a")}) == 4
    assert of("ab", "a") == of("ab", "a")


def test_an_unknown_set_and_an_unknown_observer_are_told(tmp_path):
    with pytest.raises(UnknownNameError, match="did you mean 'digits'"):
        load_calibration("digit")
    path = tmp_path / "mine.yaml"
    text = shipped.find("calibration", "digits").read_text(encoding="utf-8")
    path.write_text(text.replace("minmax", "guess"))
    with pytest.raises(ConfigError, match="observer"):
        load_calibration(str(path))
