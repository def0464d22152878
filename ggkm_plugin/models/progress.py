"""Training progress: throughput, and on a terminal a bar with the time left."""

import logging
import sys
import time
from contextlib import ExitStack

from torch import Tensor
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm


class Throughput:
    """Images per second of training, and the share of the time that went into waiting for data.

    Saving and validating are not counted. `read` starts anew.
    """

    def __init__(self) -> None:
        self._images, self._seconds, self._waited, self._start = 0, 0.0, 0.0, 0.0

    def start(self) -> None:
        """Start the time of a step: its batch is loaded."""
        self._start = time.perf_counter()

    def stop(self, images: int, waited: float) -> None:
        """Stop the time of a step. `waited`: seconds of loading its batch, before `start`."""
        self._images += images
        self._waited += waited
        self._seconds += time.perf_counter() - self._start + waited

    @property
    def images_per_s(self) -> float:
        return self._images / max(self._seconds, 1e-9)

    def read(self) -> dict[str, float]:
        values = {'images_per_s': self.images_per_s, 'data_wait': self._waited / max(self._seconds, 1e-9)}
        self.__init__()  # type: ignore[misc]
        return values


class TrainingProgress:
    """One bar over all iterations; log lines pass above it. Does nothing where stderr is no terminal or rank > 0."""

    def __init__(self, total: int, first: int, rank: int) -> None:
        self._context = ExitStack()
        self._bar: tqdm | None = None
        self._shown: dict[str, str] = {}
        if rank == 0 and sys.stderr is not None and sys.stderr.isatty():
            self._bar = tqdm(total=total, initial=first - 1, unit='it', dynamic_ncols=True, smoothing=0.05)
            self._context.enter_context(logging_redirect_tqdm([logging.getLogger('basicsr')]))

    def step(self, loss: Tensor, images_per_s: float) -> None:
        """Count an iteration."""
        if self._bar is not None:
            self._shown['loss'] = f'{float(loss):.4f}'
            if images_per_s:
                self._shown['images/s'] = f'{images_per_s:.1f}'
            self._bar.set_postfix(self._shown, refresh=False)
            self._bar.update()

    def show(self, name: str, value: float) -> None:
        """Keep a validation score in sight."""
        self._shown[name] = f'{value:.3f}'

    def close(self) -> None:
        self._context.close()
        if self._bar is not None:
            self._bar.close()
            self._bar = None
