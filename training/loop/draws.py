"""The training set as an endless, seeded sequence of draws."""

from collections.abc import Callable, Mapping

import numpy as np
from torch.utils.data import Dataset


class SeededDraws(Dataset):
    """An endless training set. Draw number `n` is a function of the seed and of `n` alone.

    Each pass over the items is in a new order.

    Args:
        num_items (`int`): number of items.
        load (`Callable`): `load(index, rng)` makes the sample of an item, a dictionary. All its randomness comes from
            `rng`, a `numpy.random.Generator`. The sample is returned with one more entry, `index`.
        seed (`int`): seed of the orders and of the generators.
        describe (`Callable`): `describe(index)` names an item in error messages.

    Raises:
        ValueError: if there are no items.
    """

    def __init__(
        self,
        num_items: int,
        load: Callable[[int, np.random.Generator], Mapping],
        seed: int,
        describe: Callable[[int], str] = "item {}".format,
    ):
        if num_items < 1:
            raise ValueError("The training set is empty: check the folder and the split that were given.")
        self.num_items, self.load, self.seed, self.describe = num_items, load, seed, describe
        self.epoch, self.order = -1, None

    def __getitem__(self, draw: int) -> dict:
        epoch, position = divmod(draw, self.num_items)
        if epoch != self.epoch:
            self.epoch = epoch
            self.order = np.random.default_rng([self.seed, 0, epoch]).permutation(self.num_items)
        index = int(self.order[position])
        return self.load(index, np.random.default_rng([self.seed, 1, draw])) | {"index": index}
