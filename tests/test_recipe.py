from __future__ import annotations

import math

import pytest

from edgeprune import shipped
from edgeprune.data.datasets import describe
from edgeprune.errors import ConfigError
from edgeprune.models.zoo import ZOO
from edgeprune.recipe import Recipe, Rows, read_yaml, validated


@pytest.fixture(autouse=True)
def data_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("EDGEPRUNE_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.mark.parametrize("name", shipped.names("recipes"))
def test_every_shipped_recipe_is_valid_and_names_things_that_exist(name):
    recipe = read_yaml(shipped.find("recipes", name), Recipe)
    assert recipe.model in ZOO
    info = describe(recipe.data.name)
    if recipe.data.normalize:
        assert len(recipe.data.normalize.mean) == len(recipe.data.normalize.std) == info.preprocess.shape[2]
    judges = [getattr(recipe.data, role) or info.splits[role] for role in ("select", "report")]
    judges += [recipe.data.calibrate or info.splits["calibrate"], *recipe.data.also_report.values()]
    for i, a in enumerate(judges):
        assert not any(overlap(a, b) for b in judges[i + 1 :])


@pytest.mark.parametrize("name", shipped.names("recipes"))
def test_every_shipped_recipe_says_at_the_top_what_it_is(name):
    assert shipped.find("recipes", name).read_text(encoding="utf-8").startswith("# ")


def test_the_recipe_of_the_default_job_holds_the_defaults():
    assert read_yaml(shipped.find("recipes", "cnn-digits"), Recipe) == Recipe()


def test_given_weights_lie_where_the_environment_says(data_folder):
    recipe = read_yaml(shipped.find("recipes", "resnet20-given"), Recipe)
    assert recipe.weights == data_folder / ".." / "models" / "resnet_cifar10" / "resnet20.safetensors"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("modle: cnn", "unknown key 'modle': did you mean 'model'. known: budgets, data, latency_table, model"),
        ("prune: {keep: 0}", r"prune\.keep: input should be greater than 0"),
        ("train: {epochs: many}", r"train\.epochs: .*got 'many'"),
        ("- cnn", "expected `key: value` lines, found list"),
        ("model: [", "not YAML"),
        ("weights: ${NOT_SET_ANYWHERE}/w", "NOT_SET_ANYWHERE.* is not set in the environment"),
    ],
)
def test_a_fault_is_told_in_one_line_with_file_and_key(tmp_path, text, message):
    path = tmp_path / "job.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        read_yaml(path, Recipe)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_rows_print_as_a_range():
    assert str(Rows(source="digits:all", stop=5)) == "digits:all[0:5]"
    assert str(Rows(source="mnist:test", start=3)) == "mnist:test[3:]"


def overlap(a: Rows, b: Rows) -> bool:
    end = 1 << 62
    return a.source == b.source and max(a.start, b.start) < min(a.stop or end, b.stop or end)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("train: {epoch: 3}", "unknown key 'train.epoch': did you mean 'train.epochs'"),
        ("modell: cnn", "unknown key 'modell': did you mean 'model'"),
        ("data: {select: {sorce: 'digits:all'}}", "data.select.source: field required"),
        ("data: {select: {source: 'digits:all', stopp: 3}}", "did you mean 'data.select.stop'"),
        ("seed: 99999999999999999999999", "seed: input should be less than"),
    ],
)
def test_a_key_that_is_misspelt_anywhere_names_the_nearest_of_its_place(tmp_path, text, said):
    (tmp_path / "recipe.yaml").write_text(text)
    with pytest.raises(ConfigError, match=said):
        read_yaml(tmp_path / "recipe.yaml", Recipe)


def test_an_agent_is_paid_in_numbers():
    with pytest.raises(ConfigError, match=r"mine\.yaml: prune\.rl\.reward\.flops: input should be a finite number"):
        validated(Recipe, {"prune": {"rl": {"reward": {"flops": math.inf}}}}, "mine.yaml")
