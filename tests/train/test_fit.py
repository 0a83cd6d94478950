from __future__ import annotations

import math
from contextlib import contextmanager

import pytest
import torch
from torch import nn

from edgeprune.data.datasets import describe, read
from edgeprune.data.samples import Samples
from edgeprune.errors import ConfigError, DataError, MissingError, ModelError, OutputError
from edgeprune.metrics import top1
from edgeprune.models.zoo import build
from edgeprune.progress import Silent
from edgeprune.prune.loss_contribution import LossPruner
from edgeprune.prune.schedule import Schedule
from edgeprune.prune.structured import StructuredPruner
from edgeprune.prune.surgery import Cut, SurgeryLog, replay
from edgeprune.recipe import Rows, TrainPart
from edgeprune.train.evaluate import evaluate
from edgeprune.train.fit import fit

INFO = describe("digits")
PREPROCESS = INFO.preprocess
FEW = read(Rows(source="digits:all", stop=150), INFO)
PARTS = {
    "adam": TrainPart(batch=32),
    "sgd": TrainPart(batch=32, optimizer="sgd", lr=0.05, weight_decay=1e-4, augment=True),
    "bf16": TrainPart(batch=32, precision="bf16"),
    "warm": TrainPart(batch=32, warmup=0.3, clip=0.5),
}


class Listening(Silent):
    """Keeps what is said, and breaks off after so many batches."""

    def __init__(self, batches=math.inf):
        self.left = batches
        self.said = []

    @contextmanager
    def task(self, name, total=None):
        yield self

    def advance(self, steps=1, note=""):
        self.left -= steps
        if self.left < 0:
            raise KeyboardInterrupt

    def say(self, text):
        self.said.append(text)


def network():
    """With all that has a state of its own in training: batch normalization and dropout."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Dropout(0.3), nn.Linear(216, 10)
    )


def trained(part=PARTS["adam"], model=None, *, samples=FEW, epochs=4, seed=3, **how):
    model = model or network()
    for _ in fit(model, samples, PREPROCESS, part, epochs=epochs, seed=seed, **how):
        pass
    return model


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_of_a_fraction_of_the_epochs_images_are_augmented_and_then_seen_as_they_are():
    none, zero, half, one, everywhere = (
        [epoch.loss for epoch in fit(network(), FEW, PREPROCESS, TrainPart(augment=augment), epochs=4, seed=3)]
        for augment in (False, 0.0, 0.5, 1.0, True)
    )
    assert zero == none != everywhere == one
    assert half[:2] == everywhere[:2] != none[:2]
    assert half[2] != everywhere[2]


def test_digits_are_learnt_in_seconds():
    torch.manual_seed(0)
    model = build("cnn", {"input_shape": (1, 8, 8), "classes": 10})
    losses = [
        epoch.loss for epoch in fit(model, read(INFO.splits["train"], INFO), PREPROCESS, TrainPart(), epochs=12, seed=0)
    ]
    assert losses[-1] < losses[0] / 10
    samples = read(INFO.splits["select"], INFO)
    assert (top1(evaluate(model, samples, PREPROCESS)["output"]) == samples.labels).mean() > 0.93


@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS)
def test_a_seed_decides_the_weights_whatever_else_draws_random_numbers(part):
    first = trained(part)
    torch.manual_seed(99)
    assert same(first, trained(part))
    assert not same(first, trained(part, seed=4))


@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS)
@pytest.mark.parametrize("batches", [5, 7, 14])  # an epoch has 5: between epochs and within one
def test_a_run_that_was_broken_off_ends_with_the_weights_of_an_unbroken_one(tmp_path, part, batches):
    checkpoint = tmp_path / "checkpoint"
    with pytest.raises(KeyboardInterrupt):
        trained(part, checkpoint=checkpoint, progress=Listening(batches))
    resumed = network()
    indices = [epoch.index for epoch in fit(resumed, FEW, PREPROCESS, part, epochs=4, seed=3, checkpoint=checkpoint)]
    assert indices == list(range(batches // 5, 4))
    assert same(resumed, trained(part))


def test_a_finished_run_is_not_run_again(tmp_path):
    checkpoint = tmp_path / "checkpoint"
    model, again = trained(checkpoint=checkpoint), network()
    progress = Listening()
    assert not list(
        fit(again, FEW, PREPROCESS, PARTS["adam"], epochs=4, seed=3, checkpoint=checkpoint, progress=progress)
    )
    assert same(again, model)
    assert not progress.said


@pytest.mark.parametrize("kept", [0, 10, 0.5, 0.99])
def test_a_torn_checkpoint_is_told_and_ignored(tmp_path, kept):
    checkpoint = tmp_path / "checkpoint"
    model = trained(checkpoint=checkpoint)
    content = checkpoint.read_bytes()
    checkpoint.write_bytes(content[: int(kept * len(content)) if kept < 1 else kept])
    progress = Listening()
    assert same(trained(checkpoint=checkpoint, progress=progress), model)
    assert len(progress.said) == 1
    assert "torn or damaged" in progress.said[0]


@pytest.mark.parametrize(
    "change", [{"seed": 4}, {"epochs": 5}, {"part": PARTS["sgd"]}, {"samples": Samples(FEW.columns, FEW.labels[::-1])}]
)
def test_a_checkpoint_of_another_training_is_told_and_ignored(tmp_path, change):
    trained(checkpoint=tmp_path / "checkpoint")
    progress = Listening()
    resumed = trained(checkpoint=tmp_path / "checkpoint", progress=progress, **change)
    assert "other settings" in progress.said[0]
    assert same(resumed, trained(**change))


def test_the_checkpoint_holds_no_code(tmp_path):
    trained(checkpoint=tmp_path / "checkpoint", epochs=1)
    assert torch.load(tmp_path / "checkpoint", weights_only=True)["done"] == 1
    assert not list(tmp_path.glob("*.partial"))


def test_training_that_diverges_is_told_with_its_epoch_and_what_to_try():
    part = TrainPart(optimizer="sgd", lr=1e12)
    with pytest.raises(ModelError, match=r"diverged in epoch [1-3] of 3 .*it is 1e\+12, try 1e\+11"):
        trained(part, nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Linear(8, 10)), epochs=3)


class Wrecking:
    """Takes part in a training; after so many steps it makes the weights infinite, and before that it cuts some off."""

    def __init__(self, model, cut_at, wreck_at):
        self.model, self.cut_at, self.wreck_at, self.steps = model, cut_at, wreck_at, 0

    def step(self, loss=None):
        self.steps += 1
        if self.steps == self.wreck_at:
            self.model[1].weight.data.fill_(math.inf)
        if self.steps == self.cut_at:
            replay(self.model, SurgeryLog((Cut("1", "out", (2,)), Cut("2", "in", (2,)))))
        return self.steps == self.cut_at


@pytest.mark.parametrize(("cut_at", "wreck_at"), [(-1, 7), (6, 7)])
def test_after_it_diverged_the_network_is_in_its_last_good_state(cut_at, wreck_at):
    """Before the epoch, of five steps; or after the removal in it."""
    part = TrainPart(batch=32)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Linear(8, 10))
    states = []

    def begin(model, optimizer, steps):
        assert steps == 15
        return Wrecking(model, cut_at, wreck_at)

    def run():
        for _ in fit(model, FEW, PREPROCESS, part, epochs=3, seed=0, pruner=begin):
            states.append({name: one.clone() for name, one in model.state_dict().items()})

    with pytest.raises(ModelError, match=r"diverged in epoch 2 of 3 .*, the network is as it was before that"):
        run()
    assert all(bool(torch.isfinite(one).all()) for one in model.state_dict().values())
    if cut_at < 0:
        assert all(torch.equal(one, states[-1][name]) for name, one in model.state_dict().items())
    else:
        assert model[1].out_features == 7


def test_a_loss_that_grows_a_hundredfold_is_told_and_the_network_is_as_it_was():
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Linear(8, 10))
    before = {name: one.clone() for name, one in model.state_dict().items()}
    with pytest.raises(ModelError, match=r"diverged in epoch 1 of 4 \(loss [\d.e+]+\), .*it is 50, try 5\b"):
        trained(TrainPart(lr=50), model)
    assert all(torch.equal(one, before[name]) for name, one in model.state_dict().items())


@pytest.mark.parametrize("method", ["taylor", "loss"])
def test_nothing_is_removed_once_training_diverged_so_that_the_last_good_state_fits(method):
    """Removals are due after every step; the learning rate makes the weights infinite within the first epoch."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    made = []

    def begin(model, optimizer, steps):
        example, gradual = torch.zeros(1, 1, 8, 8), Schedule("linear", start=0, steps=steps, every=1)
        if method == "loss":
            made.append(LossPruner(model, example, optimizer, schedule=gradual, threshold=0.01, connections=0.5))
        else:
            made.append(StructuredPruner(model, example, method, optimizer=optimizer, keep=0.2, schedule=gradual))
        return made[0]

    with pytest.raises(ModelError, match=r"diverged in epoch 1 of 4"):
        trained(TrainPart(batch=8, optimizer="sgd", lr=1e30), model, pruner=begin)
    assert all(bool(torch.isfinite(one).all()) for one in model.parameters())
    assert model[1].out_features == next(one.after for one in made[0].report.layers if one.name == "1")


def test_a_training_that_prunes_and_is_broken_off_ends_as_an_unbroken_one(tmp_path):
    def begin(model, optimizer, steps):
        gradual = Schedule("cubic", start=0, steps=12, every=4)
        return StructuredPruner(
            model, torch.zeros(1, 1, 8, 8), "taylor", optimizer=optimizer, keep=0.4, schedule=gradual
        )

    whole = trained(pruner=begin)
    assert whole[0].out_channels < 6
    stopped = Listening(batches=12)
    with pytest.raises(KeyboardInterrupt):
        trained(pruner=begin, checkpoint=tmp_path / "state", progress=stopped)
    again = trained(pruner=begin, checkpoint=tmp_path / "state", progress=(heard := Listening()))
    assert not heard.said
    assert same(again, whole)


def test_the_last_batch_is_never_a_single_sample():
    samples = FEW.part(slice(33))  # 32 + 1 would break batch normalization of 1x1 maps
    model = nn.Sequential(nn.Conv2d(1, 4, 8), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 10))
    trained(TrainPart(batch=32), model, samples=samples, epochs=1)


def test_every_batch_is_told_and_the_layout_of_the_weights_is_given_back():
    class Counting(Silent):
        batches = 0

        @contextmanager
        def task(self, name, total=None):
            assert (name, total) == ("train", 5)
            yield self

        def advance(self, steps=1, note=""):
            self.batches += steps

    progress = Counting()
    model = trained(epochs=1, progress=progress)
    assert progress.batches == 5
    assert all(parameter.is_contiguous() for parameter in model.parameters())


def test_what_cannot_be_done_is_told(tmp_path):
    with pytest.raises(DataError, match="no samples to train on"):
        trained(samples=FEW.part(slice(0)))
    with pytest.raises(DataError, match="without labels"):
        trained(samples=Samples(FEW.columns, None))
    with pytest.raises(ConfigError, match="task none: nothing says what to train for"):
        trained(task="none")
    with pytest.raises(MissingError, match="CUDA devices"):
        trained(TrainPart(device="cuda:63"))
    with pytest.raises(OutputError, match="cannot be written"):
        trained(epochs=1, checkpoint=tmp_path / "no such folder" / "checkpoint")


def test_no_epochs_leave_the_weights():
    assert same(trained(epochs=0), network())


class Reader(nn.Module):
    """Tokens embedded, their sum, with dropout."""

    def __init__(self, words=17, outputs=2):
        super().__init__()
        torch.manual_seed(1)
        self.embedding = nn.Embedding(words, 8)
        self.dropout, self.dense = nn.Dropout(0.2), nn.Linear(8, outputs)

    def forward(self, input_ids, attention_mask):
        found = self.embedding(input_ids) * attention_mask.unsqueeze(2)
        return self.dense(self.dropout(found.sum(1)))


class FixedLength(Reader):
    """Its weights know the length."""

    def __init__(self):
        super().__init__()
        self.dense = nn.Linear(8 * 12, 2)

    def forward(self, input_ids, attention_mask):
        return self.dense(self.embedding(input_ids).flatten(1))


class ReadsPadding(Reader):
    """The mean is over the padding, too."""

    def forward(self, input_ids, attention_mask):
        return self.dense(self.embedding(input_ids).mean(1))


def on_sentences(model, samples, words, *, epochs=15, task="classification", **how):
    part = TrainPart(batch=32, lr=0.05)
    return [epoch.loss for epoch in fit(model, samples, words, part, task=task, epochs=epochs, seed=0, **how)]


@pytest.mark.parametrize("outputs", [1, 2])
def test_sentences_are_learnt_by_scores_and_by_a_single_one(words, sentences, outputs):
    model = Reader(outputs=outputs)
    assert on_sentences(model, sentences, words)[-1] < 0.15
    scores = evaluate(model, sentences, words)["output"]
    found = top1(scores) if outputs == 2 else (scores[:, 0] > 0).astype(int)
    assert (found == sentences.labels).mean() > 0.95


def test_the_zoos_recurrent_networks_learn_sentences(words, sentences):
    for name in ("lstm", "bilstm"):
        torch.manual_seed(0)
        model = build(name, {"length": 12, "vocabulary": 17, "classes": 2, "task": "classification"})
        part = TrainPart(batch=32, lr=0.01, clip=1.0)
        losses = [epoch.loss for epoch in fit(model, sentences, words, part, epochs=12, seed=0)]
        assert losses[-1] < 0.3 < losses[0], name


def test_values_and_spans_are_learnt(words, sentences, pairs, questions):
    assert on_sentences(Reader(outputs=1), sentences, words, task="regression")[-1] < 0.1

    class Pointer(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(17, 2)

        def forward(self, input_ids):
            start, end = self.embedding(input_ids).unbind(2)
            return {"start_logits": start, "end_logits": end}

    torch.manual_seed(0)
    losses = on_sentences(Pointer(), questions, pairs, epochs=60, task="question-answering")
    assert losses[-1] < losses[0] / 3


@pytest.mark.parametrize(
    ("model", "widths"),
    [(Reader, set(range(4, 13))), (FixedLength, {12}), (ReadsPadding, {12})],
    ids=lambda one: str(one),
)
def test_padding_is_left_out_only_where_that_changes_no_answer(words, sentences, model, widths):
    seen = set()
    network = model()
    network.register_forward_pre_hook(
        lambda module, given, named: seen.add(named["input_ids"].shape[1]) if module.training else None,
        with_kwargs=True,
    )
    for _ in fit(network, sentences.part(slice(16)), words, TrainPart(batch=1), epochs=1, seed=0):
        pass
    assert seen <= widths
    assert len(seen) > 3 or widths == {12}


def test_a_training_on_texts_that_was_broken_off_ends_as_an_unbroken_one(tmp_path, words, sentences):
    with pytest.raises(KeyboardInterrupt):
        on_sentences(Reader(), sentences, words, epochs=3, checkpoint=tmp_path / "c", progress=Listening(6))
    resumed, whole = Reader(), Reader()
    on_sentences(resumed, sentences, words, epochs=3, checkpoint=tmp_path / "c")
    on_sentences(whole, sentences, words, epochs=3)
    assert same(resumed, whole)


def test_recurrent_layers_are_trained_in_float32_and_that_is_told(words, sentences):
    arguments = {"length": 12, "vocabulary": 17, "classes": 2, "task": "classification"}
    models = []
    for precision in ("bf16", "fp32"):
        torch.manual_seed(0)
        models.append(build("lstm", arguments))
        progress = Listening()
        for _ in fit(models[-1], sentences, words, TrainPart(precision=precision), epochs=1, seed=0, progress=progress):
            pass
        assert len(progress.said) == (precision == "bf16")
    assert same(*models)


def test_a_warm_up_rises_to_the_learning_rate_and_a_clip_bounds_each_step(words, sentences):
    rates, norms = [], []
    network = Reader()
    step = torch.optim.SGD.step

    class Watching(torch.optim.SGD):
        def step(self, closure=None):
            rates.append(self.param_groups[0]["lr"])
            norms.append(float(torch.cat([p.grad.flatten() for p in network.parameters()]).norm()))
            return step(self, closure)

    part = TrainPart(batch=12, lr=0.5, optimizer="sgd", warmup=0.2, clip=0.01)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim, "SGD", Watching)
        for _ in fit(network, sentences, words, part, epochs=2, seed=0):
            pass
    assert rates[0] == 0
    peak = rates.index(max(rates))
    assert peak == 4  # a fifth of the 20 steps
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert max(norms) <= 0.01 * 1.001
