"""Batches for training and testing, read by worker processes."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from srfgan.models.errors import InputError
from srfgan.models.structures import Target
from srfgan_cli.data.dataset import DetectionDataset, Request, Sample
from srfgan_cli.data.mixed import MixedBatches, MixedDataset
from srfgan_cli.data.sampler import EvaluationBatches, TrainingBatches

_LOOK = 2.0
"""Seconds between two looks of a worker for its parent."""
_OPEN_FILES = 65536


@dataclass
class Batch:
    """What a loader gives.

    Attributes:
        images: (3, H, W) uint8 RGB each, of different sizes.
        targets: one per image; boxes and labels on the images' device.
        image_ids: the data set's own ids.
        original_sizes: height and width of the files' images.
    """

    images: list[Tensor]
    targets: list[Target]
    image_ids: list[int]
    original_sizes: list[tuple[int, int]]

    def to(self, device: torch.device | str) -> Batch:
        """The same batch with images, boxes and labels on `device`."""
        images = [image.to(device, non_blocking=True) for image in self.images]
        return Batch(images, [t.to(device) for t in self.targets], self.image_ids, self.original_sizes)

    def pin_memory(self) -> Batch:
        """The same batch in page-locked memory; the DataLoader calls it."""
        images = [image.pin_memory() for image in self.images]
        targets = [Target(t.boxes.pin_memory(), t.labels.pin_memory(), t.masks) for t in self.targets]
        return Batch(images, targets, self.image_ids, self.original_sizes)

    def __getstate__(self) -> dict[str, Any]:
        """For the way out of a worker: all pixels in one piece of shared memory, and no tensors besides.

        Each tensor would travel in shared memory of its own, which costs more than to copy what is small.
        """
        pixels = _shared_bytes(sum(image.numel() for image in self.images))
        sizes = [(image.shape[1], image.shape[2]) for image in self.images]
        for place, image in zip(_images(pixels, sizes), self.images, strict=True):
            place.copy_(image)
        targets = [(each.boxes.numpy(), each.labels.numpy(), each.masks) for each in self.targets]
        return vars(self) | {"images": (pixels, sizes), "targets": targets}

    def __setstate__(self, state: dict[str, Any]) -> None:
        images = _images(*state["images"])
        targets = [
            Target(torch.from_numpy(boxes), torch.from_numpy(labels), masks)
            for boxes, labels, masks in state["targets"]
        ]
        vars(self).update(state | {"images": images, "targets": targets})


def _shared_bytes(count: int) -> Tensor:
    """(count,) uint8 in shared memory, of any content."""
    return torch.empty(0, dtype=torch.uint8).set_(torch.UntypedStorage._new_shared(count))


def _images(pixels: Tensor, sizes: list[tuple[int, int]]) -> list[Tensor]:
    """Views of bytes as images (3, H, W) of these heights and widths, one after the other, pixel by pixel."""
    pieces = pixels.split([3 * height * width for height, width in sizes])
    return [piece.view(*size, 3).permute(2, 0, 1) for piece, size in zip(pieces, sizes, strict=True)]


class Loader:
    """Batches of a DataLoader; an unusable image ends the iteration with its own InputError.

    (An exception raised in a worker process would come back with that process's traceback in its text.)
    """

    def __init__(self, loader: DataLoader[Any], batches: Sampler[list[Request]]) -> None:
        self._loader = loader
        self._batches = batches

    def __len__(self) -> int:
        """Batches of a test loader; a training loader has no end."""
        return len(self._loader)

    def __iter__(self) -> Iterator[Batch]:
        for item in self._loader:
            if isinstance(item, InputError):
                raise item
            yield item


def build_train_loader(
    dataset: DetectionDataset,
    *,
    batch_size: int,
    pseudo: tuple[DetectionDataset, int] | None = None,
    repeats: np.ndarray | None = None,
    group_factor: int = 0,
    accumulate: int = 1,
    rank: int = 0,
    world_size: int = 1,
    seed: int = 0,
    start: int = 0,
    workers: int = 0,
    device: torch.device | str = "cpu",
) -> Loader:
    """Endless micro-batches for this process, `accumulate` of them per step.

    Args:
        dataset: what to read.
        batch_size: images per optimizer step over all processes and accumulation steps.
        pseudo: a second data set and its images per step, which every micro-batch has its share of.
        repeats: how often each image of `dataset` comes in an epoch (`repeat_factors`); None: once.
        group_factor: how finely batches are of one aspect ratio (`aspect_groups`).
        accumulate: micro-batches per optimizer step.
        rank, world_size: this process among all.
        seed: of order, sizes and flips.
        start: first optimizer step, for resuming; the sequence goes on as if it had never stopped.
        workers: reading processes; 0 reads in this one.
        device: where the batches will go; CUDA gets page-locked memory.

    Raises:
        InputError: the batch cannot be divided evenly; while iterating, an image cannot be used.
    """
    if pseudo is not None:
        _check_mixture(batch_size, pseudo[1], accumulate, world_size)
    batches = [
        TrainingBatches(
            part.sizes.numpy(),
            batch_size=size,
            repeats=factors,
            group_factor=group_factor,
            accumulate=accumulate,
            rank=rank,
            world_size=world_size,
            seed=seed,
            start=start,
        )
        for part, size, factors in ((dataset, batch_size, repeats), *([(*pseudo, None)] if pseudo else []))
    ]
    if pseudo is None:
        return _build(dataset, batches[0], workers, device)
    mixed = MixedBatches(batches[0], batches[1], len(dataset))
    return _build(MixedDataset(dataset, pseudo[0]), mixed, workers, device)


def _check_mixture(labelled: int, pseudo: int, accumulate: int, world_size: int) -> None:
    """Whether each part of a mixed batch can be divided, which a batch that can be may not have.

    Raises:
        InputError: one cannot.
    """
    parts = accumulate * world_size
    if labelled % parts or pseudo % parts:
        raise InputError(
            f"a batch of {labelled + pseudo} images is {labelled} labelled and {pseudo} pseudo-labelled ones "
            f"(finetune.self_training.ratio), of which each of {world_size} process(es) has as many in each of "
            f"{accumulate} accumulation step(s): choose batch size and ratio so that both are multiples of {parts}, as "
            f"a batch of {2 * parts * max(1, round((labelled + pseudo) / 2 / parts))} with a ratio of 1"
        )


def build_test_loader(
    dataset: DetectionDataset,
    *,
    batch_size: int = 1,
    rank: int = 0,
    world_size: int = 1,
    workers: int = 0,
    device: torch.device | str = "cpu",
) -> Loader:
    """Every image once, shared out among the processes, in batches of one size; arguments as for training."""
    sizes = dataset.sizes.numpy()
    batches = EvaluationBatches(sizes, batch_size=batch_size, rank=rank, world_size=world_size)
    return _build(dataset, batches, workers, device)


def _build(
    dataset: Dataset[Sample], batches: Sampler[list[Request]], workers: int, device: torch.device | str
) -> Loader:
    if workers:
        _allow_many_open_files()
    loader = DataLoader(
        _Guarded(dataset),
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=_collate,
        pin_memory=torch.device(device).type == "cuda",
        worker_init_fn=_start_worker if workers else None,
        # The default would draw from torch's global generator and so change a resumed run.
        generator=torch.Generator().manual_seed(0),
    )
    return Loader(loader, batches)


class _Guarded(Dataset["Sample | InputError"]):
    """The data set with its InputErrors as values, which travel between processes unharmed."""

    def __init__(self, dataset: Dataset[Sample]) -> None:
        self._dataset = dataset

    def __getitem__(self, request: Request) -> Sample | InputError:
        try:
            return self._dataset[request]
        except InputError as error:
            return error


def _collate(samples: list[Sample | InputError]) -> Batch | InputError:
    good: list[Sample] = []
    for sample in samples:
        if isinstance(sample, InputError):
            return sample
        good.append(sample)
    return Batch(
        images=[sample.image for sample in good],
        targets=[sample.target for sample in good],
        image_ids=[sample.image_id for sample in good],
        original_sizes=[sample.original_size for sample in good],
    )


def _start_worker(_worker: int) -> None:
    """Leave interrupts to the main process: it saves a checkpoint first and ends its workers itself.

    Ctrl-C, a closed terminal's SIGHUP and a scheduler's SIGTERM reach the whole process group. A worker therefore
    ignores the first two and ends on the third only if its parent sent it. It ends with a parent that is killed, too:
    torch's own look-out for that can wait for ever to hand over what nobody takes any more. (The DataLoader has already
    set it to one thread.)
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    if hasattr(signal, "sigtimedwait"):
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        threading.Thread(target=_end_with_parent, args=[os.getppid()], daemon=True).start()


def _end_with_parent(parent: int) -> None:
    while os.getppid() == parent:
        told = signal.sigtimedwait([signal.SIGTERM], _LOOK)
        if told is not None and told.si_pid == parent:
            break
    os._exit(0)


def _allow_many_open_files() -> None:
    """Tensors travel from workers as open files: raise the soft limit, which is often 1024."""
    try:
        import resource
    except ImportError:  # not a Unix system
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
    if 0 <= soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
