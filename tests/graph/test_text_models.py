"""Models that read token ids, as torch exports them, through everything that is done to a given graph."""

from __future__ import annotations

import logging
import warnings

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import nn

from edgeprune.backends import LOAD
from edgeprune.backends.openvino.lower import HINT
from edgeprune.errors import MissingError
from edgeprune.graph.batch import batched_inputs, free_batch
from edgeprune.graph.cleanup import clean
from edgeprune.graph.layers import weighted_layers
from edgeprune.graph.load import read_onnx
from edgeprune.graph.save import write_onnx
from edgeprune.registry import resolve

WORDS, LENGTH = 30, 7
OPTIONS = {"ort": {}, "openvino": {"INFERENCE_PRECISION_HINT": HINT["fp32"]}}


class Recurrent(nn.Module):
    """Embedding, a bidirectional LSTM and a linear layer on what it says at the last token."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(WORDS, 8)
        self.lstm = nn.LSTM(8, 6, num_layers=2, batch_first=True, bidirectional=True)
        self.fc = nn.Linear(12, 3)

    def forward(self, ids):
        return self.fc(self.lstm(self.embedding(ids))[0][:, -1])


def bert():
    """Of one layer, with weights and biases that are neither 0 nor 1."""
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=WORDS, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24,
        max_position_embeddings=16, num_labels=3, attn_implementation="sdpa", return_dict=False,
    )  # fmt: skip
    model = transformers.BertForSequenceClassification(config)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model


def export(model, inputs, shapes, path):
    names = list(inputs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)
        try:
            program = torch.onnx.export(
                model.eval(), (), kwargs=inputs, dynamo=True, opset_version=20, dynamic_shapes=shapes,
                input_names=names, output_names=["logits"], verbose=False,
            )  # fmt: skip
        finally:
            logging.disable(logging.NOTSET)
    program.save(path)
    return path


def tokens(batch, length):
    random = np.random.default_rng(0)
    ids, mask = random.integers(0, WORDS, (batch, length)), np.ones((batch, length), np.int64)
    mask[0, length // 2 :] = 0
    return {"input_ids": ids, "attention_mask": mask}


@pytest.fixture(scope="module")
def recurrent(tmp_path_factory):
    torch.manual_seed(0)
    model = Recurrent()
    ids = torch.zeros(2, LENGTH, dtype=torch.int64)
    path = tmp_path_factory.mktemp("lstm") / "given.onnx"
    return model, export(model, {"ids": ids}, {"ids": {0: torch.export.Dim("n")}}, path)


@pytest.fixture(scope="module")
def transformer(tmp_path_factory):
    torch.manual_seed(0)
    model = bert()
    inputs = {name: torch.from_numpy(array) for name, array in tokens(2, LENGTH).items()}
    free = {0: torch.export.Dim("n"), 1: torch.export.Dim("length", max=16)}
    return model, export(model, inputs, dict.fromkeys(inputs, free), tmp_path_factory.mktemp("bert") / "given.onnx")


@pytest.fixture(params=sorted(LOAD))
def backend(request):
    try:
        resolve(LOAD, request.param, "runtime")
    except MissingError as error:
        pytest.skip(str(error))
    return request.param


def assert_parity(backend, model, graph, feeds, tmp_path):
    """What the runtime computes is what torch computes."""
    write_onnx(graph, tmp_path / "clean.onnx")
    with torch.no_grad():
        expected = model(**{name: torch.from_numpy(array) for name, array in feeds.items()})
    expected = expected[0] if isinstance(expected, tuple) else expected
    batch = len(next(iter(feeds.values())))
    load = resolve(LOAD, backend, "runtime")
    with load({"model": tmp_path / "clean.onnx"}, OPTIONS[backend], threads=1, batch=batch) as runner:
        np.testing.assert_allclose(runner.infer(feeds)["logits"], expected.numpy(), atol=1e-4)


@pytest.mark.parametrize("batch", [1, 3])
def test_a_recurrent_network_computes_the_same_in_every_runtime(recurrent, backend, batch, tmp_path):
    model, path = recurrent
    feeds = {"ids": tokens(batch, LENGTH)["input_ids"]}
    assert_parity(backend, model, free_batch(clean(read_onnx(path))), feeds, tmp_path)


@pytest.mark.parametrize(("batch", "length"), [(1, 5), (3, 7), (2, 16)])
def test_a_transformer_computes_the_same_at_every_length_in_every_runtime(
    transformer, backend, batch, length, tmp_path
):
    model, path = transformer
    assert_parity(backend, model, free_batch(clean(read_onnx(path))), tokens(batch, length), tmp_path)


def test_recurrent_weights_are_constants_called_like_their_layer(recurrent):
    graph = clean(read_onnx(recurrent[1])).graph
    layers = [node for node in graph if node.op_type == "LSTM"]
    assert [node.name for node in layers] == ["lstm", "lstm_2"]
    for node in layers:
        suffixes = ("weight_ih", "weight_hh", "bias")
        assert [value.name for value in node.inputs[1:4]] == [f"{node.name}.{suffix}" for suffix in suffixes]
        assert all(value.const_value is not None for value in node.inputs[1:4])
    assert not {"Slice", "Concat", "ConstantOfShape"} & {node.op_type for node in graph}


def test_layers_of_a_transformer_are_called_like_their_modules(transformer):
    model, path = transformer
    modules = dict(model.named_modules())
    linear = [name for name, module in modules.items() if isinstance(module, nn.Linear)]
    layers = weighted_layers(clean(read_onnx(path)))
    assert [layer.name for layer in layers if layer.op != "Gather"] == linear
    assert all(isinstance(modules[layer.name], nn.Embedding) for layer in layers if layer.op == "Gather")
    assert all(layer.weight == f"{layer.name}.weight" for layer in layers)


def test_normalization_and_activation_of_a_transformer_stay_single_operators(transformer):
    kinds = [node.op_type for node in clean(read_onnx(transformer[1])).graph]
    assert (kinds.count("LayerNormalization"), kinds.count("Gelu")) == (3, 1)
    assert not {"Erf", "ReduceMean", "Pow"} & set(kinds)


@pytest.mark.parametrize("which", ["recurrent", "transformer"])
def test_a_clean_text_model_stays_as_it_is(request, which):
    once = clean(read_onnx(request.getfixturevalue(which)[1]))
    assert ir.to_proto(clean(once)) == ir.to_proto(once)


def test_the_length_of_a_transformer_stays_free_beside_the_batch(transformer):
    freed = free_batch(clean(read_onnx(transformer[1])))
    assert batched_inputs(freed) == ("input_ids", "attention_mask")
    assert [[str(size) for size in value.shape] for value in freed.graph.inputs] == [["batch", "length"]] * 2
