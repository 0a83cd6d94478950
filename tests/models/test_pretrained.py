from __future__ import annotations

import json
import shutil

import pytest
import torch

from edgeprune.errors import CorruptError, ModelError
from edgeprune.models.calling import inputs_of, run
from edgeprune.models.pretrained import is_pretrained, tokenizer_of
from edgeprune.models.zoo import build, source_hash, specs_of

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.filterwarnings("ignore")

TEXT = {"length": 16, "vocabulary": 60, "classes": 3, "task": "classification"}
IMAGE = {"input_shape": [1, 8, 8], "classes": 10, "task": "classification"}
SMALL = {"num_attention_heads": 2, "num_hidden_layers": 1, "hidden_size": 16, "intermediate_size": 16}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Folders that save_pretrained wrote, and the models in them."""
    from transformers import BertConfig, BertForSequenceClassification, ViTConfig, ViTForImageClassification

    texts = BertConfig(vocab_size=60, max_position_embeddings=32, **SMALL)
    texts.num_labels = 3
    pixels = ViTConfig(image_size=8, patch_size=4, num_channels=1, **SMALL)
    pixels.num_labels = 10
    models = {"bert": BertForSequenceClassification(texts), "vit": ViTForImageClassification(pixels)}
    root = tmp_path_factory.mktemp("hf")
    for name, model in models.items():
        model.save_pretrained(root / name)
    return root, models


@pytest.fixture
def bert(saved, tmp_path):
    """A copy of the small BERT's folder."""
    return shutil.copytree(saved[0] / "bert", tmp_path / "bert")


@pytest.mark.parametrize(("name", "arguments"), [("bert", TEXT), ("vit", IMAGE)])
def test_a_folder_gives_the_model_that_was_saved(saved, name, arguments, capfd):
    root, models = saved
    model = build(f"hf:{root / name}", arguments)
    assert capfd.readouterr() == ("", "")
    assert model.training
    inputs = {
        spec.name: torch.ones(spec.fixed(batch=2), dtype=getattr(torch, spec.dtype))
        for spec in inputs_of(model, specs_of(arguments))
    }
    with torch.no_grad():
        found = run(model.eval(), inputs)["logits"]
        expected = models[name].eval()(*inputs.values()).logits
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": 2}, "has 3 labels, the data have 2 classes"),
        ({"classes": 1, "task": "regression"}, "has 3 labels, the data have one value"),
        ({"length": 40}, "takes 32 tokens at most, the data give 40: --length 32"),
        ({"vocabulary": 61}, "knows 60 tokens, the tokenizer has 61"),
        ({"task": "question-answering"}, "no weights for qa_outputs.bias, qa_outputs.weight: .* another task"),
        ({"task": "none"}, "task none: transformers have heads for"),
    ],
)
def test_a_model_that_does_not_fit_the_data_is_refused_in_one_line(bert, change, message):
    with pytest.raises(ModelError, match=message) as caught:
        build(f"hf:{bert}", {**TEXT, **change})
    assert "\n" not in str(caught.value)


def test_texts_images_and_arrays_are_told_apart(saved):
    root, _ = saved
    with pytest.raises(ModelError, match="is no model for images"):
        build(f"hf:{root / 'bert'}", {**IMAGE, "classes": 3})
    with pytest.raises(ModelError, match="is no model for texts"):
        build(f"hf:{root / 'vit'}", {**TEXT, "classes": 10})
    with pytest.raises(ModelError, match=r"takes images of \[1, 8, 8\], the data give \[1, 9, 9\]"):
        build(f"hf:{root / 'vit'}", {**IMAGE, "input_shape": [1, 9, 9]})
    with pytest.raises(ModelError, match="the data are arrays"):
        build(f"hf:{root / 'bert'}", {"inputs": {"x": ["float32", ["batch", 3]]}, "classes": 3, "task": "none"})


def test_pickled_weights_and_code_that_comes_with_a_model_are_not_read(bert):
    (bert / "model.safetensors").rename(bert / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"no \.safetensors in it: pickled weights are not read"):
        build(f"hf:{bert}", TEXT)
    marker = bert / "was-run"
    (bert / "own.py").write_text(f"open({str(marker)!r}, 'w')\nclass Config: pass")
    config = json.loads((bert / "config.json").read_text())
    config |= {"model_type": "own-kind", "auto_map": {"AutoConfig": "own.Config"}}
    (bert / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="no model of type 'own-kind' and code that comes with a model is never run"):
        build(f"hf:{bert}", TEXT)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("config.json", b"{", "config.json is damaged"),
        ("config.json", b"[]", "names no model_type"),
        ("config.json", b"{}", "names no model_type"),
        ("model.safetensors", b"x", "cannot be read|cannot be loaded"),
    ],
)
def test_damage_is_told_in_one_line(bert, file, content, message):
    (bert / file).write_bytes(content)
    with pytest.raises((CorruptError, ModelError), match=message) as caught:
        build(f"hf:{bert}", TEXT)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["hf:", "hf:/no/such", "hf:./none", "hf:a/b/c"])
def test_what_is_no_folder_and_cannot_be_of_the_hub_is_told_at_once(name):
    with pytest.raises(ModelError, match=r"no such folder|say which model"):
        build(name, TEXT)


def test_a_model_is_another_when_a_file_of_it_is(bert):
    name = f"hf:{bert}"
    before = source_hash(name)
    (bert / "README.md").write_text("words")
    assert source_hash(name) == before
    with (bert / "model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        last = file.read(1)
        file.seek(-1, 2)
        file.write(bytes([last[0] ^ 1]))
    assert source_hash(name) != before


def test_its_own_tokenizer_is_found(bert):
    assert is_pretrained(f"hf:{bert}")
    assert not is_pretrained("bert-base")
    assert tokenizer_of(f"hf:{bert}") is None
    (bert / "vocab.txt").write_text("[PAD]")
    assert tokenizer_of(f"hf:{bert}") == bert / "vocab.txt"
    (bert / "tokenizer.json").write_text("{}")
    assert tokenizer_of(f"hf:{bert}") == bert / "tokenizer.json"
