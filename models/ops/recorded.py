"""Networks recorded on a GPU, for inference: played back, the host starts them with one call instead of hundreds."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

Maps: TypeAlias = dict[str, Tensor]
Key: TypeAlias = tuple[torch.Size, torch.dtype | None]

MOST = 24
"""Sizes of batches that are recorded; each keeps its results' memory, some 0.1 GiB at 800x1333."""


class Recorded:
    """A function of maps, recorded as a CUDA graph for each size of batch that comes a second time.

    Small batches are not limited by the GPU: its host needs longer to ask for a backbone's kernels one by one than
    these take. What is played back is what was recorded, so the function's weights must not change meanwhile. It
    computes the same, since it is made of the same kernels.

    Args:
        function: (N, C, H, W) to maps by name; without random numbers and without waits for the GPU. Called as it
            is for batches that are not on a GPU, at the first time of a size, and after it could not be recorded.
    """

    def __init__(self, function: Callable[[Tensor], Maps]) -> None:
        self.function = function
        self._seen: Counter[Key] = Counter()
        self._recordings: dict[Key, _Recording] = {}
        self._given_up = False

    def __call__(self, batch: Tensor) -> Maps:
        """What the function gives; the maps hold until the next call."""
        if self._given_up or not _can_be_recorded(batch):
            return self.function(batch)
        key = (batch.shape, torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else None)
        if key not in self._recordings and not self._record(key, batch):
            return self.function(batch)
        return self._recordings[key].play(batch)

    def _record(self, key: Key, batch: Tensor) -> bool:
        """Whether there is a recording of this size now."""
        self._seen[key] += 1
        if self._seen[key] == 1 or len(self._recordings) == MOST:
            return False
        pool = next(iter(self._recordings.values())).pool if self._recordings else None
        try:
            self._recordings[key] = _Recording(self.function, batch, pool)
        except RuntimeError as error:  # out of memory too
            reason = str(error).partition("\n")[0]
            warnings.warn(f"the network is not recorded, which costs speed only: {reason}", stacklevel=4)
            self._given_up = True
            self._recordings.clear()
        return not self._given_up


def _can_be_recorded(batch: Tensor) -> bool:
    """A stand-in for a tensor, as a test's or an exporter's, has no memory."""
    return batch.is_cuda and type(batch) is Tensor


class _Recording:
    """One graph and the memory that it reads and writes; graphs that never run at once share what lies between."""

    def __init__(self, function: Callable[[Tensor], Maps], batch: Tensor, pool: object | None) -> None:
        self.batch = batch.clone()
        self.graph = torch.cuda.CUDAGraph()
        # Weights that autocast has kept would be gone when the graph is played; other threads pin memory meanwhile.
        torch.clear_autocast_cache()
        kept = torch.is_autocast_cache_enabled()
        torch.set_autocast_cache_enabled(False)
        try:
            with torch.cuda.graph(self.graph, pool=pool, capture_error_mode="thread_local"):  # type: ignore[arg-type]
                self.maps = function(self.batch)
        finally:
            torch.set_autocast_cache_enabled(kept)

    @property
    def pool(self) -> object:
        return self.graph.pool()

    def play(self, batch: Tensor) -> Maps:
        self.batch.copy_(batch)
        self.graph.replay()
        return dict(self.maps)
