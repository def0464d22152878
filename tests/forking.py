"""Runs the command in forks of one warm process: a start costs no imports, so that a test may start it fifty times.

`python forking.py` reads jobs as lines of JSON and answers each with its exit code (negative: the signal). A job may
name the moment at which the run is killed: the n-th of the events that `watch` counts.
"""

import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path


class Server:
    """The warm process, as the tests see it."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, 'OMP_NUM_THREADS': '1'},
        )

    def run(self, *argv: str, cwd: Path, kill_at: int | None = None, timeout: float = 60) -> tuple[int, str]:
        """Exit code, and all that was printed; kill_at = 0 writes the events to events.txt instead."""
        (code,), printed = self._run({'argv': argv, 'cwd': str(cwd), 'kill_at': kill_at, 'timeout': timeout})
        return code, printed

    def run_together(self, *argv: str, cwd: Path, processes: int = 2, timeout: float = 60) -> tuple[list[int], str]:
        """Exit codes of as many ranks of one group, and all that they printed; argv may also be a python script."""
        job = {'argv': argv, 'cwd': str(cwd), 'kill_at': None, 'timeout': timeout, 'processes': processes}
        return self._run(job)

    def _run(self, job: dict) -> tuple[list[int], str]:
        print(json.dumps(job), file=self.process.stdin, flush=True)
        codes = json.loads(self.process.stdout.readline())
        return codes, Path(job['cwd'], 'printed.txt').read_text()

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(30)


def serve() -> None:
    import ggkm_plugin.basicsr_patches.seams
    import ggkm_plugin.cli.main
    import ggkm_plugin.models.defocus_model
    import ggkm_plugin.training.check_config  # noqa: F401

    for line in sys.stdin:
        job = json.loads(line)
        Path(job['cwd'], 'printed.txt').write_text('')
        port = free_port()
        children = []
        for rank in range(job.get('processes', 1)):
            child = os.fork()
            if child == 0:
                if 'processes' in job:
                    os.environ.update(
                        RANK=str(rank),
                        LOCAL_RANK=str(rank),
                        WORLD_SIZE=str(job['processes']),
                        MASTER_ADDR='127.0.0.1',
                        MASTER_PORT=str(port),
                    )
                run(job)
            children.append(child)
        deadline = time.monotonic() + job['timeout']
        print(json.dumps([wait(child, deadline) for child in children]), flush=True)


def wait(child: int, deadline: float) -> int:
    while (done := os.waitpid(child, os.WNOHANG))[0] == 0:
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.01)
    return os.waitstatus_to_exitcode(done[1])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


def run(job: dict) -> None:
    from ggkm_plugin.cli.main import main

    os.chdir(job['cwd'])
    printed = os.open('printed.txt', os.O_APPEND | os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(printed, stream)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    if job['kill_at'] is not None:
        watch(job['kill_at'])
    if job['argv'][0].endswith('.py'):
        runpy.run_path(job['argv'][0])
        code = 0
    else:
        code = main(job['argv'])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def watch(kill_at: int) -> None:
    """Count the moments between which a run can be killed, and kill it at one of them."""
    import io

    import torch

    from ggkm_plugin.evaluation.evaluator import Evaluator
    from ggkm_plugin.models.defocus_model import DefocusModel

    count = 0

    def event(name: str) -> bool:
        nonlocal count
        count += 1
        if kill_at == 0:
            with open('events.txt', 'a') as file:
                print(name, file=file)
        return count == kill_at

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def before_and_after(owner: object, name: str) -> None:
        original = getattr(owner, name)

        def watched(*args, **kwargs):
            if event(f'before {name}'):
                die()
            result = original(*args, **kwargs)
            if event(f'after {name}'):
                die()
            return result

        setattr(owner, name, watched)

    whole_save = torch.save

    def half_save(content, file):
        if event('inside torch.save'):
            buffer = io.BytesIO()
            whole_save(content, buffer)
            file.write(buffer.getvalue()[: buffer.tell() // 2])
            file.flush()
            die()
        whole_save(content, file)

    torch.save = half_save
    for owner, name in (
        (os, 'replace'),
        (Path, 'unlink'),
        (Evaluator, 'evaluate_image'),
        (DefocusModel, '_gradients'),
        (DefocusModel, 'save_training_state'),
        (torch.optim.Adam, 'step'),
    ):
        before_and_after(owner, name)


if __name__ == '__main__':
    serve()
