"""The training set as an endless, seeded sequence of draws."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from torch.utils.data import Dataset, default_collate


# A batch of large samples has at least this number of them.
MIN_BATCH_SIZE = 2


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

    def __getitem__(self, draw: int) -> dict | None:
        index = self.index(draw)
        if index is None:
            return None
        return self.load(index, np.random.default_rng([self.seed, 1, draw])) | {"index": index}

    def index(self, draw: int) -> int | None:
        """The item of a draw; None if the draw is left out."""
        epoch, position = divmod(draw, self.num_items)
        if epoch != self.epoch:
            self.epoch = epoch
            self.order = np.random.default_rng([self.seed, 0, epoch]).permutation(self.num_items)
        return int(self.order[position])

    def first_of_batch(self, draw: int) -> int:
        """The first draw, from `draw` on, with which a batch can begin."""
        return draw


class MixedDraws(SeededDraws):
    """Draws from several folders with stated shares, and from frames of several sizes.

    Draws `n * batch_size` to `(n + 1) * batch_size - 1` are batch `n`, whose frames have one size. Samples of larger
    frames are fewer, so that all batches cost about the same: the other draws of the batch are left out. Items are
    drawn with replacement.

    A size is drawn for a batch, then an item of this size for each sample. Without weights each item of a size, and
    each size by its number of items, is as likely as any other.

    Args:
        sources (`np.ndarray`): int `[N]`, the folder of each item.
        grids (`np.ndarray`): int `[N, 2]`, height and width of each item.
        batch_size (`int`): number of samples in a batch of the smallest size.
        data_weights (`Sequence[float]`, *optional*): for each folder, its share of the batches; the items of a folder
            are equally likely.
        size_weights (`Sequence[float]`, *optional*): for each size, smallest area first, its share of the batches.
        load, seed, describe: as in `SeededDraws`.

    Raises:
        ValueError: if there are no items, or there are not as many weights as sizes.
    """

    def __init__(
        self,
        sources: np.ndarray,
        grids: np.ndarray,
        batch_size: int,
        load: Callable[[int, np.random.Generator], Mapping],
        seed: int,
        describe: Callable[[int], str] = "item {}".format,
        *,
        data_weights: Sequence[float] | None = None,
        size_weights: Sequence[float] | None = None,
    ):
        super().__init__(len(sources), load, seed, describe)
        self.batch_size = batch_size
        sizes = sorted({tuple(grid) for grid in grids.tolist()}, key=lambda size: (size[0] * size[1], size))
        if size_weights is not None and len(size_weights) != len(sizes):
            names = ", ".join(f"{height} x {width}" for height, width in sizes)
            raise ValueError(
                f"--size_weights has {len(size_weights)} values, but the clips have {len(sizes)} sizes, in latent "
                f"cells {names}; give one value for each."
            )
        weights = np.ones(len(sources))
        if data_weights is not None:
            counts = np.bincount(sources, minlength=len(data_weights))
            weights = (np.asarray(data_weights) / np.maximum(counts, 1))[sources]
        smallest = sizes[0][0] * sizes[0][1]
        self.items, self.cumulative, self.numbers, shares = [], [], [], []
        for height, width in sizes:
            items = np.flatnonzero((grids == (height, width)).all(axis=1))
            total = weights[items].sum()
            self.items.append(items)
            self.cumulative.append(np.cumsum(weights[items]) / max(total, 1e-12))
            number = round(batch_size * smallest / (height * width))
            self.numbers.append(min(batch_size, max(MIN_BATCH_SIZE, number)))
            shares.append(total)
        shares = np.asarray(shares if size_weights is None else size_weights, dtype=np.float64)
        self.shares = shares / shares.sum()

    def index(self, draw: int) -> int | None:
        batch, place = divmod(draw, self.batch_size)
        size = int(np.random.default_rng([self.seed, 3, batch]).choice(len(self.shares), p=self.shares))
        if place >= self.numbers[size]:
            return None
        number = np.random.default_rng([self.seed, 4, draw]).random()
        items = self.items[size]
        return int(items[min(np.searchsorted(self.cumulative[size], number, side="right"), len(items) - 1)])

    def first_of_batch(self, draw: int) -> int:
        return -(-draw // self.batch_size) * self.batch_size


def collate_draws(draws: Sequence[dict | None]) -> dict:
    """A batch of the draws that are not left out."""
    return default_collate([draw for draw in draws if draw is not None])
