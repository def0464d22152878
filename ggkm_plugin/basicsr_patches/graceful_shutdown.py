"""Graceful shutdown: finish the step and save on the first SIGINT/SIGTERM, exit at once on the second."""

import os
import signal
import threading
import time
from types import FrameType
from typing import Any

from ggkm_plugin.basicsr_patches.launch import watched

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# Seconds in which a process started by torchrun ignores a second signal: a cluster signals every process of a job, and
# torchrun forwards its own signal to them.
_REPEAT = 5


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
            if watched() and time.monotonic() - self._since < _REPEAT:
                return
            os._exit(1)  # without clean-up, which may be what hangs
        self._since = time.monotonic()
        self.signal = signal.Signals(number).name
        if self._announce:
            os.write(2, f'\n{self.signal}: finishing this step, then saving. Send it again to exit at once\n'.encode())


def ignore_stop_signals() -> None:
    """Ignore SIGINT and SIGTERM in a worker, since the training's last step still needs its data.

    The parent ends its workers.
    """
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
