"""Videos by PyAV: frames in, annotated frames out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
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
_SLACK = 0.25
"""Seconds by which a whole file may end before its container says: encoders of sound add some."""


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
        self._stream = stream
        self._end = _end(stream)
        # Where frames are not counted, as in Matroska, the duration known is that of the longest stream.
        whole = None if self.frames else self._container.duration
        self._longest = None if whole is None else whole / av.time_base

    def __iter__(self) -> Iterator[Tensor]:
        """Frames, (3, H, W) uint8 RGB, turned as players show them: telephones store what they film lying.

        Raises:
            VideoError: the file breaks off; says after how many frames.
        """
        import av

        seen = _Seen(gap=float(1 / self.rate))
        streams = [self._stream] if self._longest is None else list(self._container.streams)
        with closing(self._container):
            try:
                for packet in self._container.demux(streams):
                    seen.packet(packet)
                    for frame in packet.decode() if packet.stream.index == self._stream.index else ():
                        # In degrees against the clock; 360 of them are 4 quarters.
                        pixels = np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90))
                        yield torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)
                        seen.frame(frame.time or 0.0)
            except av.FFmpegError as error:
                reason = error.strerror or error
                raise VideoError(
                    f"{self.path}: the video breaks off after {seen.frames} frames ({reason})"
                ) from None
        self._check_whole(seen)

    def _check_whole(self, seen: _Seen) -> None:
        """Whether what was read is all that the file says it holds."""
        if not seen.frames:
            raise VideoError(f"{self.path}: the video breaks off before its first frame")
        # One that was trimmed without encoding it anew holds frames before its start and after its end, too.
        ends_early = self._end is None or seen.last < self._end - 1.5 / self.rate
        if ends_early and seen.frames < self.frames:
            raise VideoError(f"{self.path}: the video breaks off after {seen.frames} of {self.frames} frames")
        slack = max(_SLACK, 1.5 * seen.gap)
        if self._longest is not None and seen.reached < self._longest - slack:
            share = f"{seen.reached:.1f} of {self._longest:.1f} seconds"
            raise VideoError(f"{self.path}: the video breaks off after {seen.frames} frames, {share}")


@dataclass
class _Seen:
    """What was read of a video, times in seconds.

    Attributes:
        gap: the longest from one frame to the next; where the rate varies, the last one may be shown as long.
        frames: how many.
        last: when the last of them begins.
        reached: when the last packet of any stream ends.
    """

    gap: float
    frames: int = 0
    last: float = 0.0
    reached: float = 0.0

    def frame(self, time: float) -> None:
        """Add a frame."""
        if self.frames:
            self.gap = max(self.gap, time - self.last)
        self.frames += 1
        self.last = max(self.last, time)

    def packet(self, packet: Any) -> None:
        """Add a packet of any stream; the last ones of each are empty."""
        if packet.pts is not None and packet.time_base:
            end = float((packet.pts + (packet.duration or 0)) * packet.time_base)
            self.reached = max(self.reached, end)


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
