"""Batches in one process and in several: isolated failures, and interruptions without partial files."""

import os
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from restoring import cannot_make, make

from ggkm_plugin.restoration import batch
from ggkm_plugin.restoration.jobs import DeblurJob


def photographs(folder, shades):
    jobs = []
    for number, shade in enumerate(shades):
        image = np.full((9, 11, 3), shade, np.uint8)
        Image.fromarray(image).save(folder / f'{number}.png')
        jobs.append(DeblurJob(str(folder / f'{number}.png'), str(folder / f'out/{number}.png')))
    return jobs


def outcomes(jobs, devices, made=make, overwrite=False, threads=1):
    messages = []
    found = list(batch.run(jobs, made, devices, threads, overwrite, messages.append))
    assert sorted(outcome.job.source for outcome in found) == sorted(job.source for job in jobs)
    return {Path(outcome.job.source).name: outcome for outcome in found}, messages


@pytest.mark.parametrize('devices', [['cpu'], pytest.param(['cpu', 'cpu'], marks=pytest.mark.slow)])
def test_every_photograph_has_an_outcome(tmp_path, devices):
    jobs = photographs(tmp_path, [10, 1, 20, 3])
    Path(jobs[2].source).write_bytes(b'damaged')
    found, messages = outcomes(jobs, devices)
    assert found['0.png'].fault is None
    assert found['0.png'].size == (9, 11)
    assert np.array_equal(np.asarray(Image.open(jobs[0].output)), np.full((9, 11, 3), 245))
    assert found['1.png'].fault == f'{jobs[1].source}: ZeroDivisionError: a bug'
    assert found['2.png'].fault.startswith(jobs[2].source)
    assert 'out of memory' in found['3.png'].fault
    assert os.listdir(tmp_path / 'out') == ['0.png']
    own = torch.get_num_threads()  # in this process the number of threads is not set
    assert set(messages) == {f'on cpu with {own if len(devices) == 1 else 1} threads'}
    assert len(messages) == len(devices)


@pytest.mark.slow
def test_a_killed_worker_fails_only_its_photograph(tmp_path):
    found, _ = outcomes(photographs(tmp_path, [10, 2, 20, 2, 30, 40]), ['cpu', 'cpu'])
    assert {name for name, outcome in found.items() if outcome.fault} == {'1.png', '3.png'}
    assert 'SIGKILL' in found['1.png'].fault
    assert 'memory' in found['1.png'].fault


@pytest.mark.slow
def test_a_network_that_cannot_be_made_is_a_fault_in_processes(tmp_path):
    jobs = photographs(tmp_path, [10, 20, 30])
    found, _ = outcomes(jobs, ['cpu', 'cpu'], cannot_make)
    assert all('out of memory' in outcome.fault for outcome in found.values())
    with pytest.raises(torch.OutOfMemoryError):
        outcomes(jobs, ['cpu'], cannot_make)


@pytest.mark.parametrize('output', ['a.webp', 'a.txt'])
def test_what_a_format_cannot_hold_is_refused_before_the_work(tmp_path, output):
    Image.new('L', (16_384, 1)).save(tmp_path / 'a.png')
    job = DeblurJob(str(tmp_path / 'a.png'), str(tmp_path / output))
    found, _ = outcomes([job], ['cpu'], lambda device, tell: lambda image: pytest.fail('it was restored'))
    assert found['a.png'].fault.startswith(job.output)


def test_pictures_of_both(tmp_path):
    (job,) = photographs(tmp_path, [10])
    pictures = tuple(str(tmp_path / f'page/{name}.jpg') for name in ('before', 'after'))
    outcomes([DeblurJob(job.source, job.output, pictures)], ['cpu'])
    assert [np.asarray(Image.open(path)).mean().round() for path in pictures] == [10, 245]


@pytest.mark.slow
def test_an_interruption_leaves_no_partial_file(tmp_path):
    """As Ctrl-C does: the iterator is closed while two processes work, one of which had begun to write."""
    jobs = photographs(tmp_path, [10, 4, 4, 10])
    work = batch.run(jobs, make, ['cpu', 'cpu'], 1, False, lambda line: None)
    assert next(work).fault is None
    begun = tmp_path / 'out/.1.png.part'
    begun.write_bytes(b'half')
    start = time.monotonic()
    work.close()
    assert time.monotonic() - start < 30
    assert os.listdir(tmp_path / 'out') == ['0.png']
