"""Videos by PyAV: frames in, annotated frames out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from srfgan.models.errors import InputError
from srfgan_cli.data.placement import Placement
from srfgan_cli.machine.files import shortened

_BITRATE_PER_PIXEL = 0.2
"""Bits for each pixel of each frame: sharp text and lines."""
_BITRATES = (10_000, 10**9)
"""Bits a second: x264 takes no fewer than some hundreds, which a slow video of small frames would have."""


class VideoError(InputError):
    """A video file that cannot be read, or not to its end."""


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
        frames: how many it holds, as far as it says; 0 where it does not. It may show fewer.
    """

    def __init__(self, path: Path) -> None:
        """Open the file `path`.

        Raises:
            InputError: PyAV is missing.
            VideoError: it cannot be read, or holds no video.
        """
        require_av()
        import av

        self.path = path
        try:
            self._container: Any = av.open(str(path))
        except (av.FFmpegError, OSError) as error:
            raise VideoError(f"{path}: not a video that can be read ({error.strerror or error})") from None
        if not self._container.streams.video:
            self._container.close()
            raise VideoError(f"{path}: the file holds no video")
        stream = self._container.streams.video[0]
        stream.thread_type = "AUTO"
        self.rate = Fraction(stream.average_rate or 25)
        self.frames = int(stream.frames)
        self._end = _end(stream)

    def __iter__(self) -> Iterator[Tensor]:
        """Frames, (3, H, W) uint8 RGB, turned as players show them: telephones store what they film lying.

        Raises:
            VideoError: the file breaks off; says after how many frames.
        """
        import av

        read, last = 0, 0.0
        with closing(self._container):
            try:
                for packet in self._container.demux(video=0):
                    for frame in packet.decode():
                        # In degrees against the clock; 360 of them are 4 quarters.
                        pixels = np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90))
                        yield torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)
                        read += 1
                        last = max(last, frame.time or 0.0)
            except av.FFmpegError as error:
                reason = error.strerror or error
                raise VideoError(
                    f"{self.path}: the video breaks off after {read} frames ({reason})"
                ) from None
        # One that was trimmed without encoding it anew holds frames before its start and after its end, too.
        ends_early = self._end is None or last < self._end - 1.5 / self.rate
        if ends_early and read < self.frames:
            raise VideoError(f"{self.path}: the video breaks off after {read} of {self.frames} frames")


def _end(stream: Any) -> float | None:
    """When the last frame that is shown ends, in seconds; None where the file does not say."""
    if not stream.duration or not stream.time_base:
        return None
    return float(((stream.start_time or 0) + stream.duration) * stream.time_base)


@contextmanager
def writer(path: Path | None, rate: Fraction) -> Iterator[VideoWriter | None]:
    """A new MP4 file (H.264) of `rate` frames a second; it is complete when the block ends, however it ends.

    Args:
        path: the file; None gives None.
        rate: frames a second.

    Raises:
        InputError: it cannot be written.
    """
    made = None if path is None else VideoWriter(path, rate)
    try:
        yield made
    finally:
        if made is not None:
            made.close()


class VideoWriter:
    """Takes frames, (3, H, W) uint8 RGB; the file has its name when it is closed, if there were any."""

    def __init__(self, path: Path, rate: Fraction) -> None:
        require_av()
        import av

        self._path = path
        self._temporary = path.with_name(shortened(path.name, f".{os.getpid()}.part"))
        self._rate = rate
        self._stream: Any = None
        self._size = (0, 0)
        self._failed = False
        with self._writing():
            self._container: Any = av.open(
                str(self._temporary), mode="w", format="mp4", options={"movflags": "faststart"}
            )

    def write(self, frame: Tensor) -> None:
        """Add a frame, (3, H, W) uint8 RGB; one of another size than the first one's is fitted into that, beside black.

        An odd last row or column is left out.

        Raises:
            InputError: the file cannot be written, and does not stay.
        """
        import av

        with self._writing():
            # The encoder would stretch it.
            if self._stream is not None and tuple(frame.shape[1:]) != self._size:
                frame = _fitted(frame, self._size)
            height, width = (max(2, side - side % 2) for side in frame.shape[1:])
            if self._stream is None:
                self._size = (frame.shape[1], frame.shape[2])
                self._stream = self._container.add_stream("libx264", rate=self._rate)
                self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, "yuv420p"
                wanted = int(_BITRATE_PER_PIXEL * width * height * self._rate)
                self._stream.bit_rate = min(max(wanted, _BITRATES[0]), _BITRATES[1])
            pixels = frame[:, :height, :width].permute(1, 2, 0).numpy()
            short = [(0, side - had) for side, had in zip((height, width), pixels.shape, strict=False)]
            pixels = np.ascontiguousarray(np.pad(pixels, [*short, (0, 0)], mode="edge"))
            for packet in self._stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")):
                self._container.mux(packet)

    def close(self) -> None:
        """Write what is left.

        Raises:
            InputError: the file cannot be written, and does not stay.
        """
        if self._failed:
            return
        with self._writing():
            if self._stream is not None:
                for packet in self._stream.encode():
                    self._container.mux(packet)
            self._container.close()
            if self._stream is not None:
                self._temporary.replace(self._path)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        import av

        try:
            yield
        except (av.FFmpegError, OSError, ValueError) as error:
            self._failed = True
            with suppress(OSError):
                self._temporary.unlink()
            reason = getattr(error, "strerror", None) or error
            raise InputError(f"Cannot write {self._path}: {reason}.") from None


def _fitted(frame: Tensor, size: tuple[int, int]) -> Tensor:
    """A frame (3, H, W) as large as `size` (height, width) has room for, in the middle of black."""
    factor = min(room / side for room, side in zip(size, frame.shape[1:], strict=True))
    height, width = (max(1, round(side * factor)) for side in frame.shape[1:])
    place = Placement((frame.shape[1], frame.shape[2]), (height, width), flipped=False)
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    fitted = frame.new_zeros(3, *size)
    fitted[:, top : top + height, left : left + width] = place.image(frame)
    return fitted
