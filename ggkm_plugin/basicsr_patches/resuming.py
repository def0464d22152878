"""Find the newest valid training state to resume from."""

import json
import zipfile
from pathlib import Path
from typing import Any

from ggkm_plugin.basicsr_patches.distributed import from_first, gathered, rank_and_size
from ggkm_plugin.utils.checkpoint import read_checkpoint
from ggkm_plugin.utils.errors import CheckpointError, OptionError
from ggkm_plugin.utils.files import stored_path

from basicsr.utils.misc import check_resume  # isort: skip


def load_resume_state(opt: dict[str, Any]) -> dict[str, Any] | None:
    """Load the state to resume from on the CPU, the same on every process; None for a new training.

    With --auto_resume it is the newest intact state of the experiment with an intact network; rejected states are
    printed. Raises CheckpointError if `path.resume_state` is unusable, OptionError if the state has another network.
    """
    # torchrun counts restarts per machine, so rank 0 may not know of this one.
    opt['auto_resume'] = any(gathered(opt['auto_resume']))
    found = from_first(_newest(opt) if rank_and_size()[0] == 0 else None)
    if found is None:
        return None
    state = _read_state(Path(found), opt)
    network, wanted = state.get('options', {}).get('network_g'), json.loads(json.dumps(opt['network_g']))
    if network is not None and network != wanted:
        keys = sorted(key for key in {*network, *wanted} if network.get(key) != wanted.get(key))
        raise OptionError(
            f'network_g: {found} was saved by another network: '
            + ', '.join(f'{key} is {wanted.get(key)!r} here, {network.get(key)!r} there' for key in keys)
            + '. Restore these options, or change `name`'
        )
    total = int(opt['train']['total_iter'])
    if state['iter'] > total:  # its scores would be recorded as those of iteration `total`
        raise OptionError(
            f'train.total_iter: {total}, but {found} is of iteration {state["iter"]}. Raise total_iter, or set '
            'path.resume_state to an earlier state'
        )
    opt['path']['resume_state'] = found
    check_resume(opt, state['iter'])
    return state


def numbered_states(folder: str | Path) -> list[Path]:
    """List the training states in a folder, oldest first. Files not named after an iteration are ignored."""
    numbered = [path for path in Path(folder).glob('*.state') if path.stem.isdigit()]
    return sorted(numbered, key=lambda path: int(path.stem))


def _newest(opt: dict[str, Any]) -> str | None:
    if not opt['auto_resume']:
        return opt['path'].get('resume_state')
    paths = numbered_states(opt['path']['training_states'])
    for path in reversed(paths):
        try:
            _read_state(path, opt)
        except CheckpointError as error:
            print(f'Not resumed from {error}', flush=True)
        else:
            return str(path)
    if paths:
        print('No usable training state: starting from iteration 0. The earlier run is renamed', flush=True)
    else:
        folder = opt['path']['training_states']
        print(f'No training state in {folder}: starting from iteration 0. For a run elsewhere, set --root', flush=True)
    return None


def _read_state(path: Path, opt: dict[str, Any]) -> dict[str, Any]:
    if not path.is_file():
        raise CheckpointError(f'{path}: no such training state. Correct path.resume_state')
    if not _is_whole(path):
        raise CheckpointError(f'{path}: truncated or not a training state. Choose an earlier one')
    state = read_checkpoint(str(path))
    missing = {'iter', 'epoch', 'optimizers', 'schedulers'} - state.keys()
    if missing:
        raise CheckpointError(f'{path}: not a training state: missing {", ".join(sorted(missing))}')
    network = Path(stored_path(Path(opt['path']['models']) / f'net_g_{state["iter"]}.pth'))
    if not _is_whole(network):
        raise CheckpointError(
            f'{path}: its network {network} is missing or truncated. Choose an earlier state, or set `name` to its run'
        )
    if 'saved' in state and state['saved'] != read_checkpoint(str(network)).get('description', {}).get('saved'):
        raise CheckpointError(f'{path}: {network} was saved at another time. Choose an earlier state')
    return state


def _is_whole(path: Path) -> bool:
    """Whether a checkpoint is complete: a zip archive's members have checksums, a safetensors header has sizes."""
    try:
        if path.suffix == '.safetensors':
            return bool(read_checkpoint(path))
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (OSError, zipfile.BadZipFile, EOFError, CheckpointError):
        return False
