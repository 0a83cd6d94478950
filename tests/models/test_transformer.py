from __future__ import annotations

import pytest
import torch

from edgeprune.errors import ModelError
from edgeprune.models.calling import inputs_of, run
from edgeprune.models.zoo import build, specs_of

transformers = pytest.importorskip("transformers")

TEXTS = {"length": 12, "vocabulary": 50}
TASKS = {
    "classification": {"logits": (2, 3)},
    "regression": {"logits": (2, 1)},
    "question-answering": {"start_logits": (2, 12), "end_logits": (2, 12)},
}
CLASSES = {"classification": 3, "regression": 1, "question-answering": 0}


@pytest.mark.parametrize("task", TASKS)
def test_each_task_has_its_head(task):
    arguments = {**TEXTS, "classes": CLASSES[task], "task": task}
    model = build("bert-mini", arguments).eval()
    inputs = {spec.name: torch.ones(2, 12, dtype=torch.int64) for spec in inputs_of(model, specs_of(arguments))}
    assert list(inputs) == ["input_ids", "attention_mask", "token_type_ids"]
    with torch.no_grad():
        assert {name: tuple(one.shape) for name, one in run(model, inputs).items()} == TASKS[task]


def test_distilbert_takes_no_token_types():
    arguments = {**TEXTS, "classes": 2, "task": "classification"}
    with torch.device("meta"):
        model = build("distilbert", arguments)
    assert [spec.name for spec in inputs_of(model, specs_of(arguments))] == ["input_ids", "attention_mask"]


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("bert-base", 109_483_778),  # Devlin et al. 2019: 110 M
        ("distilbert", 66_955_010),  # Sanh et al. 2019: 66 M
        ("bert-mini", 11_171_074),  # Turc et al. 2019: 11.3 M
    ],
)
def test_a_model_has_as_many_parameters_as_were_published(name, parameters):
    with torch.device("meta"):
        model = build(name, {"length": 128, "vocabulary": 30522, "classes": 2, "task": "classification"})
    assert sum(p.numel() for p in model.parameters()) == parameters


def test_a_text_may_be_longer_than_published_models_take():
    with torch.device("meta"):
        model = build("bert-mini", {"length": 600, "vocabulary": 50, "classes": 2, "task": "classification"})
    assert model.config.max_position_embeddings == 600


def test_a_task_without_a_head_is_refused():
    with pytest.raises(ModelError, match="task none: transformers have heads for classification"):
        build("bert-mini", {**TEXTS, "classes": 2, "task": "none"})
