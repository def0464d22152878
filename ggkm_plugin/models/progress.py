"""A progress bar with the time left, on a terminal only: elsewhere the host's log lines tell it."""

import logging
import sys
from contextlib import ExitStack

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm


class TrainingProgress:
    """One bar over all iterations; log lines pass above it. Does nothing where stderr is no terminal or rank > 0."""

    def __init__(self, total: int, first: int, rank: int) -> None:
        self._context = ExitStack()
        self._bar: tqdm | None = None
        self._shown: dict[str, str] = {}
        if rank == 0 and sys.stderr is not None and sys.stderr.isatty():
            self._bar = tqdm(total=total, initial=first - 1, unit='it', dynamic_ncols=True, smoothing=0.05)
            self._context.enter_context(logging_redirect_tqdm([logging.getLogger('basicsr')]))

    def step(self, loss: float) -> None:
        """One iteration is done."""
        if self._bar is not None:
            self._shown['loss'] = f'{loss:.4f}'
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
