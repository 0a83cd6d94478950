import pytest

from edgeprune.data.splits import resolve_splits
from edgeprune.errors import ConfigError, DataError
from edgeprune.recipe import DataPart, Normalize, Rows


def rows(start, stop):
    return Rows(source="digits:all", start=start, stop=stop)


def test_the_digits_own_splits_are_disjoint_where_they_must_be():
    splits = resolve_splits(DataPart(), trains=True)
    assert splits.reported == ("select", "report")
    assert not set(splits.digests["report"]) & set(splits.digests["train"])
    assert len(splits.digests["report"]) == 400


def test_a_sample_that_is_chosen_on_and_reported_is_named():
    part = DataPart(select=rows(1000, 1200), report=rows(1199, 1400))
    with pytest.raises(
        DataError, match=r"splits report and select share 1 samples, first report\[0\] and select\[199\]"
    ):
        resolve_splits(part, trains=False)


def test_training_on_what_is_reported_is_refused_where_weights_are_trained():
    part = DataPart(train=rows(0, 1797))
    with pytest.raises(DataError, match="splits train and report share 400 samples"):
        resolve_splits(part, trains=True)
    resolve_splits(part, trains=False)


def test_calibrating_on_training_rows_is_allowed():
    assert resolve_splits(DataPart(calibrate=rows(0, 64)), trains=True).rows["calibrate"].stop == 64


def test_a_calibration_set_of_other_data_is_refused(tmp_path):
    other = tmp_path / "other.yaml"
    other.write_text("name: other\ndata: mnist\nrows: {source: 'digits:all', stop: 64}\nsha256: ''\n")
    with pytest.raises(DataError, match="is of mnist, the data are digits"):
        resolve_splits(DataPart(calibration=str(other)), trains=False)


def test_a_normalization_of_other_channels_is_refused():
    part = DataPart(normalize=Normalize(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)))
    with pytest.raises(ConfigError, match="digits has 1 channels"):
        resolve_splits(part, trains=False)


def test_the_fingerprint_of_a_split_is_that_of_its_samples_in_order():
    one = resolve_splits(DataPart(report=rows(1500, 1600)), trains=False)
    same = resolve_splits(DataPart(report=rows(1500, 1600)), trains=False)
    other = resolve_splits(DataPart(report=rows(1501, 1601)), trains=False)
    assert one.fingerprint("report") == same.fingerprint("report") != other.fingerprint("report")
