from edgeprune.prune.training_flops import TrainingFlops


def test_a_step_costs_three_passes_and_one_of_them_is_dense_where_connections_grow():
    flops = TrainingFlops()
    flops.add(10, 100, samples=4)
    assert (flops.spent, flops.dense) == (2 * 4 * 3 * 10, 2 * 4 * 3 * 100)
    flops.add(10, 100, samples=4, dense_gradient=True)
    assert flops.spent == 2 * 4 * (3 * 10 + 2 * 10 + 100)
