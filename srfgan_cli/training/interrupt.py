"""Ctrl-C and SIGTERM ask the loop to stop after the running iteration."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

IMPATIENCE = 2.0
"""Seconds after which another Ctrl-C means that the user does not want to wait for the checkpoint."""


class Interrupted(Exception):  # noqa: N818 - not an error: the user asked for it
    """The run was asked to stop and has saved its state."""


class StopRequest:
    """Set by the first signal; a second Ctrl-C some time later ends the process at once.

    Schedulers and launchers often send the same signal twice, which must not cost the checkpoint.
    """

    def __init__(self) -> None:
        self.requested = False
        self._since = 0.0

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Signal handler."""
        if self.requested and number == signal.SIGINT and time.monotonic() - self._since > IMPATIENCE:
            raise KeyboardInterrupt
        if not self.requested:
            self._since = time.monotonic()
        self.requested = True


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Catch SIGINT and SIGTERM for the time of a training loop."""
    request = StopRequest()
    previous = {number: signal.signal(number, request.handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
