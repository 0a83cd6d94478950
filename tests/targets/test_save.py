from __future__ import annotations

import pytest

from edgeprune.errors import ConfigError, OutputError
from edgeprune.targets.load import load_target, target_names
from edgeprune.targets.save import save


@pytest.mark.parametrize("name", target_names())
def test_what_is_saved_is_the_same_target_again(tmp_path, name):
    path = tmp_path / "copy.yaml"
    save(load_target(name), path)
    assert load_target(str(path)) == load_target(name)


def test_a_file_that_is_there_is_not_replaced(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("mine")
    with pytest.raises(OutputError, match="is there already"):
        save(load_target("rpi5"), path)
    assert path.read_text() == "mine"


def test_a_place_that_could_not_be_read_or_written_is_told(tmp_path):
    with pytest.raises(ConfigError, match=r"ends in \.yaml"):
        save(load_target("rpi5"), tmp_path / "mine.json")
    with pytest.raises(OutputError, match="No such file or directory"):
        save(load_target("rpi5"), tmp_path / "none" / "mine.yaml")
