"""A polite end: the first SIGINT or SIGTERM is a wish that the training grants after its step, the second is obeyed."""

import os
import signal
import threading
import time
from types import FrameType
from typing import Any

from ggkm_plugin.basicsr_patches.launch import watched

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# Seconds in which a process below torchrun takes a second signal for the first one's echo: a cluster signals every
# process of a job, and torchrun hands on to its own what it is sent itself.
_ECHO = 5


class StopRequest:
    """While active, `signal` is the name of the first SIGINT or SIGTERM received; another one ends the process."""

    def __init__(self, announce: bool = True) -> None:
        self.signal: str | None = None
        self._announce = announce
        self._since = 0.0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> 'StopRequest':
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._received) for number in _SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _received(self, number: int, _: FrameType | None) -> None:
        if self.signal is not None:
            if watched() and time.monotonic() - self._since < _ECHO:
                return
            os._exit(1)  # whatever hangs, hangs no longer
        self._since = time.monotonic()
        self.signal = signal.Signals(number).name
        if self._announce:
            os.write(2, f'\n{self.signal}: finishing this step, then saving; once more ends at once\n'.encode())


def leave_stopping_to_the_parent() -> None:
    """In a loading process: Ctrl-C and a cluster's SIGTERM reach the whole group, but the last step needs its data.

    It ends when the parent has no more use for it, or is gone.
    """
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
