from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from edgeprune.cli.main import main
from edgeprune.data import digits


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["run", *map(str, arguments)])


def answered(*arguments: object) -> dict:
    done = run(*arguments, "--json")
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return digits.load()[0][:3]


def test_a_bundles_own_samples_get_the_answers_that_it_holds(bundles):
    file = bundles["cpu"] / "samples.npz"
    found = answered(bundles["cpu"], "--input", file, "--variant", "ort-fp32")
    with np.load(file) as samples:
        np.testing.assert_allclose(found["outputs"]["output"], samples["output"], atol=1e-4)
    best = [one[0]["index"] for one in found["classes"]]
    assert best == np.argmax(found["outputs"]["output"], axis=1).tolist()
    assert all(str(answer["index"]) == answer["label"] for one in found["classes"] for answer in one)


def test_a_tensor_images_and_an_image_file_of_the_same_digit_get_the_same_answer(bundles, images, tmp_path):
    preprocess = json.loads((bundles["cpu"] / "preprocess.json").read_bytes())
    tensor = ((images / preprocess["levels"] - preprocess["mean"]) / preprocess["std"]).transpose(0, 3, 1, 2)
    np.save(tmp_path / "tensor.npy", tensor.astype(np.float32))
    np.save(tmp_path / "images.npy", images)
    np.save(tmp_path / "one.npy", images[0])
    Image.fromarray(images[0, :, :, 0]).save(tmp_path / "one.png")
    found = {
        name: answered(bundles["cpu"], "--input", tmp_path / name)["outputs"]["output"]
        for name in ("tensor.npy", "images.npy", "one.npy", "one.png")
    }
    np.testing.assert_allclose(found["tensor.npy"], found["images.npy"], atol=1e-5)
    assert found["one.npy"] == found["one.png"] == found["images.npy"][:1]


def test_without_json_the_best_classes_are_shown_by_name(bundles):
    shown = run(bundles["cpu"], "--input", bundles["cpu"] / "samples.npz", "--variant", "ort-int8").stdout
    assert shown.splitlines()[0] == "ort-int8, best classes with scores:"
    assert len(shown.splitlines()) == 5


@pytest.mark.parametrize(
    ("name", "array", "said"),
    [
        ("x.npy", np.zeros((1, 1, 9, 9), np.float32), "'input' is float32 [1, 1, 9, 9]; the model takes float32"),
        ("x.npy", np.zeros((1, 1, 8, 8), np.float64), "or 8-bit images [N, 8, 8, 1]"),
        ("x.npy", np.array([{}]), "pickled Python objects"),
        ("missing.npy", None, "no such file"),
    ],
)
def test_what_does_not_fit_is_one_line_and_exit_code_two(bundles, tmp_path, name, array, said):
    if array is not None:
        np.save(tmp_path / name, array, allow_pickle=True)
    done = run(bundles["cpu"], "--input", tmp_path / name)
    assert done.exit_code == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_variant_that_is_not_there_gets_the_nearest(bundles):
    done = run(bundles["cpu"], "--input", bundles["cpu"] / "samples.npz", "--variant", "ort-int9")
    assert (done.exit_code, "did you mean 'ort-int8'?" in done.stderr) == (2, True)


def test_a_tensorrt_variant_runs_on_its_device_only(bundles):
    done = run(bundles["jetson"], "--input", bundles["cpu"] / "samples.npz")
    assert done.exit_code == 4
    assert "TensorRT is missing" in done.stderr
