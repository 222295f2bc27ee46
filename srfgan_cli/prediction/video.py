"""Videos by PyAV: frames in, annotated frames out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from srfgan.models.errors import InputError

_BITRATE_PER_PIXEL = 0.2
"""Bits for each pixel of each frame: sharp text and lines."""


def require_av() -> None:
    """Check that the optional package is installed.

    Raises:
        InputError: it is not.
    """
    if find_spec("av") is None:
        raise InputError("videos need PyAV: pip install 'srfgan[video]'")


class Video:
    """A video file that is read frame by frame.

    Attributes:
        path: the file.
        rate: frames a second.
        frames: how many there are, as far as the file says; 0 where it does not.
    """

    def __init__(self, path: Path) -> None:
        """Open the file `path`.

        Raises:
            InputError: it cannot be read, or holds no video.
        """
        require_av()
        import av

        self.path = path
        try:
            self._container: Any = av.open(str(path))
        except (av.FFmpegError, OSError) as error:
            raise InputError(f"{path}: not a video that can be read ({error.strerror or error})") from None
        if not self._container.streams.video:
            self._container.close()
            raise InputError(f"{path}: the file holds no video")
        stream = self._container.streams.video[0]
        stream.thread_type = "AUTO"
        self.rate = Fraction(stream.average_rate or 25)
        self.frames = int(stream.frames)

    def __iter__(self) -> Iterator[Tensor]:
        """Frames, (3, H, W) uint8 RGB.

        Raises:
            InputError: the file breaks off; says after how many frames.
        """
        import av

        read = 0
        with closing(self._container):
            try:
                for frame in self._container.decode(video=0):
                    yield torch.from_numpy(frame.to_ndarray(format="rgb24")).permute(2, 0, 1)
                    read += 1
            except av.FFmpegError as error:
                reason = error.strerror or error
                raise InputError(
                    f"{self.path}: the video breaks off after {read} frames ({reason})"
                ) from None
        if read < self.frames:
            raise InputError(f"{self.path}: the video breaks off after {read} of {self.frames} frames")


@contextmanager
def writer(path: Path | None, rate: Fraction) -> Iterator[VideoWriter | None]:
    """A new MP4 file (H.264) of `rate` frames a second; it is complete when the block ends, however it ends.

    Args:
        path: the file; None gives None.
        rate: frames a second.
    """
    made = None if path is None else VideoWriter(path, rate)
    try:
        yield made
    finally:
        if made is not None:
            made.close()


class VideoWriter:
    """Takes frames, (3, H, W) uint8 RGB."""

    def __init__(self, path: Path, rate: Fraction) -> None:
        require_av()
        import av

        self._container: Any = av.open(str(path), mode="w", options={"movflags": "faststart"})
        self._rate = rate
        self._stream: Any = None

    def write(self, frame: Tensor) -> None:
        """Add a frame, (3, H, W) uint8 RGB; all are of the first one's size. An odd last row or column is left out."""
        import av

        height, width = (side - side % 2 for side in frame.shape[1:])
        if self._stream is None:
            self._stream = self._container.add_stream("libx264", rate=self._rate)
            self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, "yuv420p"
            self._stream.bit_rate = int(_BITRATE_PER_PIXEL * width * height * self._rate)
        pixels = np.ascontiguousarray(frame[:, :height, :width].permute(1, 2, 0).numpy())
        for packet in self._stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")):
            self._container.mux(packet)

    def close(self) -> None:
        """Write what is left."""
        if self._stream is not None:
            for packet in self._stream.encode():
                self._container.mux(packet)
        self._container.close()
