"""Two data sets read as one: labelled and pseudo-labelled images in every batch (self-training)."""

from __future__ import annotations

from collections.abc import Iterator

from torch.utils.data import Dataset, Sampler

from srfgan_cli.data.dataset import DetectionDataset, Request, Sample
from srfgan_cli.data.sampler import TrainingBatches


class MixedDataset(Dataset[Sample]):
    """The positions of `first`, then those of `second`."""

    def __init__(self, first: DetectionDataset, second: DetectionDataset) -> None:
        self.first = first
        self.second = second

    def __getitem__(self, request: Request) -> Sample:
        position, seed = request
        if position < len(self.first):
            return self.first[request]
        return self.second[position - len(self.first), seed]


class MixedBatches(Sampler[list[Request]]):
    """Each micro-batch of `first` with the one of `second` of the same number behind it.

    Both are functions of seed and step alone, and so is this.

    Args:
        first, second: the samplers of a `MixedDataset`'s parts; each keeps its own epochs and shapes.
        offset: images of the first part.
    """

    def __init__(self, first: TrainingBatches, second: TrainingBatches, offset: int) -> None:
        self.first = first
        self.second = second
        self.offset = offset

    def __iter__(self) -> Iterator[list[Request]]:
        for ours, others in zip(self.first, self.second, strict=True):
            yield ours + [(position + self.offset, seed) for position, seed in others]
