"""The seeded training set."""

from loop.draws import SeededDraws


def test_draws_visit_every_item_once_per_pass_and_repeat_by_number():
    draws = SeededDraws(5, lambda index, rng: {"index": index, "value": rng.random()}, seed=1)
    passes = [[draws[5 * epoch + i]["index"] for i in range(5)] for epoch in range(3)]
    assert all(sorted(order) == list(range(5)) for order in passes) and passes[0] != passes[1]
    again = SeededDraws(5, draws.load, seed=1)
    assert again[12] == draws[12] and again[12]["value"] != again[13]["value"]
