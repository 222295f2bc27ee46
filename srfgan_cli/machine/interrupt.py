"""Ctrl-C, SIGTERM and SIGHUP: the training loop stops after its iteration and saves; all else ends in order."""

from __future__ import annotations

import os
import signal
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

IMPATIENCE = 2.0
"""Seconds after which another Ctrl-C means that the user does not want to wait for the checkpoint."""
Handler = Callable[[int, FrameType | None], None]


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
        if not self.requested:
            self._since = time.monotonic()
            self.requested = True
            say(
                "Interrupted: saving after this iteration. Another Ctrl-C stops at once, from the last checkpoint."
            )
        elif number == signal.SIGINT and time.monotonic() - self._since > IMPATIENCE:
            say("Stopped at once.")
            raise KeyboardInterrupt


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Let the signals ask for an end for the time of a training loop."""
    request = StopRequest()
    with handling(request.handle):
        yield request


@contextmanager
def handling(handler: Handler) -> Iterator[None]:
    """Let a handler take SIGINT, SIGTERM and, unless nohup has it ignored, SIGHUP."""
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    previous = {number: signal.signal(number, _without_terminal(handler)) for number in numbers}
    try:
        yield
    finally:
        for number, before in previous.items():
            signal.signal(number, before)


def end_on_signals() -> None:
    """From now on the signals end this process in order, by KeyboardInterrupt, and it says at once that it heard."""
    own = os.getpid()

    def handle(_number: int, _frame: FrameType | None) -> None:
        if os.getpid() == own:  # and not in a process that it has forked
            say("Interrupted.")
        raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, _without_terminal(handle))


def let_signals_end() -> None:
    """From now on the signals end this process at once and without a word."""
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, signal.SIG_DFL)


def say(text: str) -> None:
    """Write a line to stderr, on the main process, from inside of a handler: whatever else is being written."""
    if os.environ.get("RANK", "0") == "0":
        with suppress(OSError):
            os.write(2, f"\n{text}\n".encode())


def _without_terminal(handler: Handler) -> Handler:
    """The handler, which on SIGHUP first has the output go nowhere: its terminal is gone, and writing would fail."""

    def handle(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            nowhere = os.open(os.devnull, os.O_RDWR)
            for descriptor in (0, 1, 2):
                with suppress(OSError):
                    if stat.S_ISCHR(os.fstat(descriptor).st_mode):
                        os.dup2(nowhere, descriptor)
            os.close(nowhere)
        handler(number, frame)

    return handle
