"""Throughput, and the progress bar of a terminal."""

import io
import logging
import sys

import pytest
import torch

from ggkm_plugin.models import progress
from ggkm_plugin.models.progress import Throughput, TrainingProgress


@pytest.fixture
def clock(monkeypatch):
    """Clock that advances only by explicit calls."""

    class Clock:
        now = 100.0

        def perf_counter(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(progress, 'time', clock)
    return clock


def passed(throughput, clock, step, waited, images):
    throughput.start()
    clock.now += step
    throughput.stop(images, waited)


def test_images_a_second_and_the_share_of_waiting(clock):
    """Two steps of 3 s and 1 s after waits of 1 s and 3 s: 8 images in 8 s, half of it waiting."""
    throughput = Throughput()
    passed(throughput, clock, 3, 1, 4)
    assert throughput.images_per_s == 1
    clock.now += 1000  # a validation, a checkpoint
    passed(throughput, clock, 1, 3, 4)
    assert throughput.read() == {'images_per_s': 1.0, 'data_wait': 0.5}
    assert throughput.read() == {'images_per_s': 0.0, 'data_wait': 0.0}


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_bar_on_a_terminal(monkeypatch):
    """Iterations, loss, speed, the last score."""
    screen = Terminal()
    monkeypatch.setattr(sys, 'stderr', screen)
    bar = TrainingProgress(3, 1, rank=0)
    bar.show('psnr', 30.0)
    for loss in (3.0, 2.0, 1.0):
        bar.step(torch.tensor(loss), 7.5)
    bar.close()
    assert '3/3' in screen.getvalue()
    assert 'loss=1.0000' in screen.getvalue()
    assert 'images/s=7.5' in screen.getvalue()
    assert 'psnr=30.000' in screen.getvalue()


def test_a_resumed_bar_starts_where_the_run_does(monkeypatch):
    screen = Terminal()
    monkeypatch.setattr(sys, 'stderr', screen)
    bar = TrainingProgress(10, 8, rank=0)
    assert '7/10' in screen.getvalue()
    bar.step(torch.tensor(1.0), 0)
    bar.close()
    assert '8/10' in screen.getvalue()


@pytest.mark.parametrize(('terminal', 'rank'), [(io.StringIO, 0), (Terminal, 1)])
def test_no_bar(monkeypatch, terminal, rank):
    screen = terminal()
    monkeypatch.setattr(sys, 'stderr', screen)
    bar = TrainingProgress(3, 1, rank)
    bar.show('psnr', 1.0)
    bar.step(torch.tensor(1.0), 1.0)
    bar.close()
    assert screen.getvalue() == ''


def test_log_lines_pass_above_the_bar_while_it_is_there(monkeypatch):
    monkeypatch.setattr(sys, 'stderr', Terminal())
    logger = logging.getLogger('basicsr')
    handler = logging.StreamHandler(sys.stderr)
    logger.addHandler(handler)
    try:
        bar = TrainingProgress(3, 1, rank=0)
        assert handler not in logger.handlers
        bar.close()
        bar.close()
        assert handler in logger.handlers
    finally:
        logger.removeHandler(handler)
