"""The seeded training set."""

import numpy as np
import pytest

from loop.draws import MixedDraws, SeededDraws, collate_draws


def test_draws_visit_every_item_once_per_pass_and_repeat_by_number():
    draws = SeededDraws(5, lambda index, rng: {"index": index, "value": rng.random()}, seed=1)
    passes = [[draws[5 * epoch + i]["index"] for i in range(5)] for epoch in range(3)]
    assert all(sorted(order) == list(range(5)) for order in passes) and passes[0] != passes[1]
    again = SeededDraws(5, draws.load, seed=1)
    assert again[12] == draws[12] and again[12]["value"] != again[13]["value"]


def make_mixed(**changes) -> MixedDraws:
    """Ten small items in folder 0; in folder 1, 30 small and 10 items with four times the area."""
    sources = np.repeat([0, 1, 1], [10, 30, 10])
    grids = np.repeat([[8, 8], [8, 8], [16, 16]], [10, 30, 10], axis=0)
    settings = {"batch_size": 8, "load": lambda index, rng: {"value": rng.random()}, "seed": 0}
    return MixedDraws(sources, grids, **(settings | changes))


def batches(draws: MixedDraws, number: int = 500) -> list[list[int]]:
    """The items of the first batches."""
    size = draws.batch_size
    found = [[draws.index(batch * size + place) for place in range(size)] for batch in range(number)]
    return [[index for index in batch if index is not None] for batch in found]


def test_batches_have_one_size_and_fewer_samples_of_larger_frames():
    found = batches(make_mixed())
    assert {(len(batch), max(batch) >= 40, min(batch) >= 40) for batch in found} == {
        (8, False, False),
        (2, True, True),
    }
    assert 0.14 < np.mean([len(batch) == 2 for batch in found]) < 0.26  # a fifth of the items is large
    assert set(sum(found, [])) == set(range(50))


def test_folders_and_sizes_have_the_stated_shares_of_the_batches():
    found = batches(make_mixed(data_weights=[3, 1]))
    assert np.mean([np.mean(np.array(batch) < 10) for batch in found]) == pytest.approx(0.75, abs=0.06)
    assert np.mean([batch[0] >= 40 for batch in found]) == pytest.approx(0.25 / 4, abs=0.03)
    found = batches(make_mixed(data_weights=[3, 1], size_weights=[1, 1]))
    assert np.mean([batch[0] >= 40 for batch in found]) == pytest.approx(0.5, abs=0.06)
    small = [np.mean(np.array(batch) < 10) for batch in found if batch[0] < 40]
    assert np.mean(small) == pytest.approx(0.75 / (0.75 + 0.25 * 3 / 4), abs=0.06)


def test_mixed_draws_repeat_by_number_and_begin_with_a_whole_batch():
    draws, again = make_mixed(), make_mixed()
    assert [draws[draw] for draw in range(40)] == [again[draw] for draw in range(40)]
    assert [draws.first_of_batch(draw) for draw in (0, 1, 8, 9)] == [0, 8, 8, 16]
    assert collate_draws([draws[0], None, draws[1]])["index"].tolist() == [draws.index(0), draws.index(1)]


def test_wrong_number_of_sizes_is_refused():
    with pytest.raises(ValueError, match="--size_weights has 1 values, but the clips have 2 sizes, .* 8 x 8, 16 x 16"):
        make_mixed(size_weights=[1])
