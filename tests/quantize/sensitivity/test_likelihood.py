import numpy as np
import pytest

from edgeprune.quantize.sensitivity.likelihood import Likelihood, divergence_of, likelihoods

RNG = np.random.default_rng(0)
KINDS = ["classes", "logit", "probability", "value"]


def outputs(kind: str, samples: int) -> np.ndarray:
    """Some that a network may give."""
    if kind == "classes":
        return RNG.normal(size=(samples, 3)).astype(np.float32)
    z = RNG.normal(size=(samples, 1)).astype(np.float32)
    return 1 / (1 + np.exp(-z)) if kind == "probability" else z


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_diverges_from_itself_and_all_else_does(kind):
    one, z, other = Likelihood(kind, 0.5), outputs(kind, 8), outputs(kind, 8)
    np.testing.assert_allclose(one.divergence(z, z), 0, atol=1e-12)
    assert (one.divergence(z, other) > 0).all()


def test_a_divergence_is_the_textbooks():
    z, other = np.log([[0.5, 0.25, 0.25]]), np.log([[0.25, 0.25, 0.5]])
    assert Likelihood("classes").divergence(z, other) == pytest.approx([0.25 * np.log(2)])
    assert Likelihood("value", 2.0).divergence(np.array([[1.0]]), np.array([[3.0]])) == pytest.approx([0.5])


def test_a_logit_its_probability_and_two_classes_say_the_same():
    z, other = outputs("logit", 5).astype(np.float64), outputs("logit", 5).astype(np.float64)
    found = [Likelihood("logit").divergence(z, other)]
    found.append(Likelihood("probability").divergence(1 / (1 + np.exp(-z)), 1 / (1 + np.exp(-other))))
    found.append(Likelihood("classes").divergence(*(np.hstack([0 * one, one]) for one in (z, other))))
    np.testing.assert_allclose(found, [found[0]] * 3, rtol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_roots_have_the_second_derivative_of_the_divergence_as_their_mean_square(kind):
    """Along any direction d: dT H d is the mean of (v . d)^2, and 2 D(z, z + d) for a small d."""
    one, draws = Likelihood(kind, 0.5), 20_000
    z = outputs(kind, 1).astype(np.float64)
    d = RNG.normal(size=z.shape)
    expected = 2 * one.divergence(z, z + 1e-4 * d)[0] / 1e-8
    random = np.random.default_rng(1)
    v = np.concatenate([one.root(z, random) for _ in range(draws)])
    assert ((v * d).sum(axis=1) ** 2).mean() == pytest.approx(expected, rel=0.05)
    assert (v**2).sum(axis=1).mean() == pytest.approx(one.trace(z)[0], rel=0.05)


def test_an_output_with_a_score_per_class_answers_a_classification():
    given = {"features": np.ones((4, 2, 3)), "scores": np.ones((4, 3))}
    assert likelihoods("classification", given) == {"scores": Likelihood("classes")}


@pytest.mark.parametrize(("is_probability", "kind"), [(False, "logit"), (True, "probability")])
def test_a_single_score_decides_between_two_classes(is_probability, kind):
    found = likelihoods("classification", {"score": np.ones((4, 1))}, is_probability=is_probability)
    assert found == {"score": Likelihood(kind)}


def test_a_question_is_answered_by_a_start_and_an_end():
    given = {"pooled": np.ones((4, 8)), "end_logits": np.ones((4, 16)), "start_logits": np.ones((4, 16))}
    found = likelihoods("question-answering", given)
    assert found == {"start_logits": Likelihood("classes"), "end_logits": Likelihood("classes")}


def test_values_deviate_as_they_do_between_samples():
    given = {"map": np.array([[[1.0, 10.0]], [[3.0, 12.0]]]), "constant": np.ones((2, 1))}
    assert likelihoods("none", given) == {"map": Likelihood("value", 1.0), "constant": Likelihood("value", 1.0)}
    assert likelihoods("regression", given) == {"constant": Likelihood("value", 1.0)}


def test_outputs_that_count_add_up():
    z, other = outputs("classes", 4), outputs("classes", 4)
    of = {name: Likelihood("classes") for name in ("start", "end")}
    total = divergence_of(of, {"start": z, "end": z}, {"start": other, "end": z})
    np.testing.assert_allclose(total, Likelihood("classes").divergence(z, other))
