import json
from pathlib import Path

import pytest

from edgeprune.bundle import Task, Variant, open_bundle, seal
from edgeprune.cache import Stage
from edgeprune.errors import OutputError
from edgeprune.pipeline.assemble import check_out, place


@pytest.fixture
def sealed(tmp_path: Path):
    """A stage that left a bundle of this seed."""

    def made(seed: int = 0) -> Stage:
        folder = tmp_path / "cache" / str(seed)
        (folder / "baseline").mkdir(parents=True)
        (folder / "baseline" / "model.onnx").write_bytes(b"graph")
        variant = Variant("baseline", "ort", "fp32", {"model": "baseline/model.onnx"}, {}, ())
        core = {key: {} for key in ("splits", "budgets", "pruning", "assumptions", "versions", "recipe")}
        core |= {
            "model": "cnn",
            "target": "cpu",
            "inputs": (),
            "outputs": (),
            "task": Task("none", ()),
            "untrained": False,
            "variants": (),
        }
        seal(folder, core | {"baseline": variant, "seed": seed, "command": "edgeprune compile"})
        (folder / "stage.json").write_text("{}")
        return Stage("bundle", str(seed), folder, reused=False)

    return made


def test_a_bundle_appears_whole_without_the_record_of_its_stage(sealed, tmp_path):
    out = tmp_path / "deep" / "out"
    check_out(out)
    place(sealed(), out)
    assert open_bundle(out).core.seed == 0
    assert not (out / "stage.json").exists()
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_an_equal_bundle_keeps_its_measurements_and_another_is_replaced(sealed, tmp_path):
    out = tmp_path / "out"
    place(sealed(0), out)
    (out / "measured.json").write_text("{}")
    check_out(out)
    place(Stage("bundle", "0", tmp_path / "cache" / "0", reused=True), out)
    assert (out / "measured.json").exists()
    check_out(out)
    place(sealed(1), out)
    assert open_bundle(out).core.seed == 1
    assert not (out / "measured.json").exists()


def test_a_damaged_bundle_that_is_all_ours_is_replaced(sealed, tmp_path):
    out = tmp_path / "out"
    place(sealed(0), out)
    (out / "baseline" / "model.onnx").write_bytes(b"cut")
    check_out(out)
    place(Stage("bundle", "0", tmp_path / "cache" / "0", reused=True), out)
    open_bundle(out)


@pytest.mark.parametrize("name", ["thesis.txt", "baseline/notes.md", ".hidden"])
def test_a_file_of_the_users_beside_a_bundle_is_never_lost(sealed, tmp_path, name):
    out = tmp_path / "out"
    place(sealed(), out)
    (out / name).write_text("years of work")
    with pytest.raises(OutputError, match="would be lost"):
        check_out(out)


@pytest.mark.parametrize("content", ["{}", "[]", "not json", json.dumps({"sha256": {}})])
def test_a_folder_that_merely_holds_a_bundle_json_is_not_taken_for_a_bundle(tmp_path, content):
    (tmp_path / "bundle.json").write_text(content)
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputError, match="would be lost"):
        check_out(tmp_path)


def test_a_file_and_the_folder_we_stand_in_are_refused(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="is a file"):
        check_out(tmp_path / "file")
    monkeypatch.chdir(tmp_path)
    for place_ in (tmp_path, tmp_path.parent):
        with pytest.raises(OutputError, match="the folder you are in"):
            check_out(place_)


def test_what_a_dead_process_left_beside_is_swept_and_what_a_live_one_makes_stays(sealed, tmp_path):
    dead, alive = tmp_path / f".out.{2**22 + 1}.partial", tmp_path / ".out.1.partial"
    dead.mkdir()
    alive.mkdir()
    place(sealed(), tmp_path / "out")
    assert (dead.exists(), alive.exists()) == (False, True)
