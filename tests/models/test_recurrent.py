from __future__ import annotations

import pytest
import torch

from edgeprune.errors import ModelError
from edgeprune.models.recurrent import BiLstm, Lstm

VOCABULARY = 40


@pytest.fixture(params=[Lstm, BiLstm])
def model(request):
    torch.manual_seed(0)
    return request.param(vocabulary=VOCABULARY, classes=2).eval()


def text(*tokens, length):
    return torch.tensor([[*tokens] + [0] * (length - len(tokens))])


def test_the_padding_of_a_text_changes_no_answer(model):
    with torch.no_grad():
        alone = model(text(5, 9, 2, length=3))
        torch.testing.assert_close(model(text(5, 9, 2, length=12)), alone)
        together = model(torch.cat([text(5, 9, 2, length=6), text(1, 2, 3, 4, 5, 6, length=6)]))
        torch.testing.assert_close(together[:1], alone)


def test_a_texts_order_and_every_token_matter(model):
    with torch.no_grad():
        answer = model(text(5, 9, 2, 7, length=6))
        for other in ((2, 9, 5, 7), (5, 9, 2, 8), (4, 9, 2, 7), (5, 9, 2)):
            assert not torch.allclose(model(text(*other, length=6)), answer, atol=1e-6)


def test_nothing_but_padding_has_an_answer(model):
    with torch.no_grad():
        assert torch.isfinite(model(torch.zeros(2, 4, dtype=torch.int64))).all()


def test_the_second_direction_reads_a_text_back_to_front():
    model = BiLstm(vocabulary=VOCABULARY, classes=2).eval()
    mirrored = BiLstm(vocabulary=VOCABULARY, classes=2).eval()
    state = model.state_dict()
    swapped = {
        name.replace("forwards", "x").replace("backwards", "forwards").replace("x", "backwards"): value
        for name, value in state.items()
    }
    swapped["dense.weight"] = state["dense.weight"].roll(128, 1)
    mirrored.load_state_dict(swapped)
    with torch.no_grad():
        torch.testing.assert_close(mirrored(text(7, 2, 9, 5, length=6)), model(text(5, 9, 2, 7, length=6)))


def test_one_score_cannot_tell_three_classes_apart():
    with pytest.raises(ModelError, match="cannot tell 3 classes apart: use lstm"):
        BiLstm(vocabulary=VOCABULARY, classes=3)
    assert Lstm(vocabulary=VOCABULARY, classes=3)(text(1, 2, length=3)).shape == (1, 3)
