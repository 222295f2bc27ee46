"""Which images make up each step: a function of the seed and the step alone.

The sequence of global batches is the same on one process or many, and at a resume.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from itertools import count

import numpy as np
from torch.utils.data import Sampler

from srfgan.models.errors import InputError
from srfgan_cli.data.dataset import Request


class TrainingBatches(Sampler[list[Request]]):
    """Endless micro-batches of one process, each a list of (position, seed).

    Every epoch visits all images in a new order: once, or as often as their repeat factors say, of whose fraction each
    epoch draws anew whether it is one visit more. An image waits in the group of its aspect ratio
    (wide or tall, or finer) until that has a full global batch, so that no batch is mostly padding; images still
    waiting at the end of an epoch come first in the next.

    Args:
        sizes: (N, 2) heights and widths.
        batch_size: images per optimizer step over all processes and accumulation steps.
        repeats: (N,) repeat factors from 1 on; None: every image once an epoch.
        group_factor: groups of aspect ratios between each two neighbouring powers of 2 from 1/2 to 2 (`aspect_groups`).
        accumulate: micro-batches per optimizer step.
        rank, world_size: this process takes slice `rank` of each global batch.
        seed: of the order and of everything random about the images.
        start: the first step; earlier ones are passed over.

    Raises:
        InputError: the batch cannot be divided evenly.
    """

    def __init__(
        self,
        sizes: np.ndarray,
        *,
        batch_size: int,
        repeats: np.ndarray | None = None,
        group_factor: int = 0,
        accumulate: int = 1,
        rank: int = 0,
        world_size: int = 1,
        seed: int = 0,
        start: int = 0,
    ) -> None:
        if batch_size % (world_size * accumulate):
            raise InputError(
                f"a batch of {batch_size} images cannot be divided over {world_size} process(es) with"
                f" {accumulate} accumulation step(s); choose a multiple of {world_size * accumulate}"
            )
        self.groups, self.group_count = aspect_groups(sizes, group_factor)
        self.batch_size = batch_size
        self.repeats = repeats
        self.accumulate = accumulate
        self.rank = rank
        self.world_size = world_size
        self.seed = seed
        self.start = start

    def __iter__(self) -> Iterator[list[Request]]:
        share = self.batch_size // self.world_size
        micro = share // self.accumulate
        for step, positions in self._global_batches():
            seeds = np.random.SeedSequence([self.seed, step]).generate_state(self.batch_size, np.uint64) >> 1
            requests = list(zip(positions.tolist(), seeds.tolist(), strict=True))
            mine = requests[self.rank * share : (self.rank + 1) * share]
            for first in range(0, share, micro):
                yield mine[first : first + micro]

    def _global_batches(self) -> Iterator[tuple[int, np.ndarray]]:
        step = 0
        waiting = [np.zeros(0, np.int64)] * self.group_count
        for epoch in count():
            order = self._order(np.random.default_rng([self.seed, epoch]))
            batches, waiting = _group(order, self.groups[order], waiting, self.batch_size)
            for positions in batches:
                if step >= self.start:
                    yield step, positions
                step += 1

    def _order(self, random: np.random.Generator) -> np.ndarray:
        """The positions of one epoch."""
        if self.repeats is None:
            return random.permutation(len(self.groups))
        once_more = random.random(len(self.repeats)) < self.repeats % 1
        counts = self.repeats.astype(np.int64) + once_more
        return random.permutation(np.repeat(np.arange(len(counts)), counts))


def aspect_groups(sizes: np.ndarray, factor: int) -> tuple[np.ndarray, int]:
    """The group of each image by its width / height, (N,) int64 from 0, and how many groups there are.

    Bounds are 2^-1 .. 2^1 in 2 * `factor` equal steps of the exponent, each bound belonging to the wider images; for a
    factor of 0 the only one is 1 (torchvision's detection reference, `create_aspect_ratio_groups`).

    Args:
        sizes: (N, 2) heights and widths.
        factor: see above.
    """
    bounds = 2.0 ** np.linspace(-1, 1, 2 * factor + 1) if factor else np.ones(1)
    return np.searchsorted(bounds, sizes[:, 1] / sizes[:, 0], side="right"), len(bounds) + 1


def _group(
    order: np.ndarray, groups: np.ndarray, waiting: list[np.ndarray], size: int
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """One epoch's full batches, in the order in which they fill up, and who still waits in each group."""
    filled: list[tuple[int, np.ndarray]] = []
    left = []
    for group, before in enumerate(waiting):
        place = np.flatnonzero(groups == group)
        queue = np.concatenate([before, order[place]])
        full = len(queue) // size
        last = place[np.arange(1, full + 1) * size - 1 - len(before)]
        filled += zip(last.tolist(), queue[: full * size].reshape(full, size), strict=True)
        left.append(queue[full * size :])
    return [positions for _, positions in sorted(filled, key=lambda batch: batch[0])], left


class EvaluationBatches(Sampler[list[Request]]):
    """Each image once: this process's contiguous share, in batches of images of one size; one by one, in order.

    Images of several sizes would be padded together, and what is found at their borders would depend on what is in
    their batch.

    Args:
        sizes: (N, 2) height and width of the data set's images.
        batch_size: images per batch, at most.
        rank, world_size: this process takes share `rank`; shares differ by one image at most.
    """

    def __init__(self, sizes: np.ndarray, *, batch_size: int = 1, rank: int = 0, world_size: int = 1) -> None:
        count = len(sizes)
        first, end = count * rank // world_size, count * (rank + 1) // world_size
        self.positions = range(first, end)
        if batch_size == 1:
            self._batches = [[position] for position in self.positions]
        else:
            alike = of_one_size(map(tuple, sizes[first:end].tolist()), batch_size)
            self._batches = [[first + place for place in places] for places in alike]

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[list[Request]]:
        for batch in self._batches:
            yield [(position, 0) for position in batch]


def of_one_size(sizes: Iterable[Hashable], most: int) -> list[list[int]]:
    """The places of `sizes`, those of equal ones together, `most` at a time."""
    alike: dict[Hashable, list[int]] = {}
    for place, size in enumerate(sizes):
        alike.setdefault(size, []).append(place)
    return [places[at : at + most] for places in alike.values() for at in range(0, len(places), most)]
