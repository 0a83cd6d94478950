import pytest

from edgeprune.errors import ConfigError, MissingError, UnknownNameError
from edgeprune.pipeline.compile import compile_bundle
from edgeprune.recipe import Budgets, PrunePart, QuantizePart, Recipe
from edgeprune.targets.load import load_target


@pytest.fixture
def refused(tmp_path):
    """Compile with these, which must be refused before any work."""

    def run(recipe: Recipe, target: str = "cpu", backends: tuple[str, ...] | None = None) -> None:
        try:
            compile_bundle(recipe, load_target(target), out=tmp_path / "out", backends=backends, cache=None)
        finally:
            assert not (tmp_path / "out").exists()

    return run


def test_a_backend_the_target_has_not_is_named_with_the_nearest(refused):
    with pytest.raises(UnknownNameError, match="did you mean 'ort'"):
        refused(Recipe(), backends=("orrt",))


def test_a_precision_the_target_does_not_execute_is_refused_with_those_it_does(refused):
    recipe = Recipe(quantize=QuantizePart(precision="bf16"))
    with pytest.raises(ConfigError, match=r"jetson-orin-nano does not execute bf16 in tensorrt: fp32, int8"):
        refused(recipe, "jetson")


def test_a_latency_budget_for_a_device_that_is_not_here_is_missing_the_device(refused):
    with pytest.raises(MissingError, match="is not this machine"):
        refused(Recipe(budgets=Budgets(max_latency_ms=1)), "jetson")


def test_pruning_a_graph_is_refused_only_where_it_was_asked_for(refused, tmp_path):
    with pytest.raises(ConfigError, match="an ONNX file cannot be pruned"):
        refused(Recipe(model="user.onnx", prune=PrunePart(pruner="magnitude")))
