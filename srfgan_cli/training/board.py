"""TensorBoard's file of a run's numbers and pictures, written where it is called.

torch's SummaryWriter writes in a thread of its own: when the disk is full that dies with a traceback, and the run goes
on without it, or waits for it.
"""

from __future__ import annotations

import io
import itertools
import os
import socket
import time
from pathlib import Path

from PIL import Image
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter
from torch.utils.tensorboard.summary import scalar

_numbers = itertools.count()


class Board:
    """Appends to a new file of `folder`; every method may raise OSError.

    Args:
        folder: made.
        start: what earlier files have from this step on is hidden.
    """

    def __init__(self, folder: Path, start: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        host = socket.gethostname()
        name = f"events.out.tfevents.{int(time.time()):010d}.{host}.{os.getpid()}.{next(_numbers)}"
        self._file = (folder / name).open("wb")
        self._records = RecordWriter(self._file)
        self._write(Event(file_version="brain.Event:2"))
        self._write(Event(session_log=SessionLog(status=SessionLog.START), step=start))
        self.flush()

    def add(self, name: str, value: float, step: int) -> None:
        """Write one number."""
        self._write(Event(summary=scalar(name, value), step=step))

    def show(self, name: str, picture: Image.Image, step: int) -> None:
        """Write one picture."""
        content = io.BytesIO()
        picture.save(content, "JPEG", quality=82)
        image = Summary.Image(
            height=picture.height, width=picture.width, colorspace=3, encoded_image_string=content.getvalue()
        )
        self._write(Event(summary=Summary(value=[Summary.Value(tag=name, image=image)]), step=step))

    def flush(self) -> None:
        """Hand everything to the operating system."""
        self._file.flush()

    def close(self) -> None:
        """Flush and close."""
        self._file.close()

    def _write(self, event: Event) -> None:
        event.wall_time = time.time()
        self._records.write(event.SerializeToString())
