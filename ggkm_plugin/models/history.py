"""History of validations in one file, so that best scores survive a run that is killed between two states."""

import json
from pathlib import Path
from typing import Any

from ggkm_plugin.utils.errors import CheckpointError
from ggkm_plugin.utils.files import write_whole


class ValidationHistory:
    """Entries {iter, dataset, metrics: {name: score}, input: {name: score}}, in `path` as JSON, oldest first."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.entries: list[dict[str, Any]] = []

    def load(self, last: int) -> None:
        """Read the file; what came after iteration `last` belongs to a training that is forgotten."""
        try:
            entries = json.loads(self.path.read_text())
            if not isinstance(entries, list) or not all(map(_is_entry, entries)):
                raise ValueError('no list of validations')
        except FileNotFoundError:
            entries = []
        except (OSError, ValueError) as error:
            raise CheckpointError(f'{self.path}: cannot be read ({error}); remove it to continue without it') from error
        self.entries = [entry for entry in entries if entry['iter'] <= last]

    def add(self, iteration: int, dataset: str, metrics: dict[str, float], inputs: dict[str, float]) -> None:
        """Put down a validation, in place of an earlier one of the same iteration."""
        kept = [entry for entry in self.entries if (entry['iter'], entry['dataset']) != (iteration, dataset)]
        self.entries = [*kept, {'iter': iteration, 'dataset': dataset, 'metrics': metrics, 'input': inputs}]

    def has(self, iteration: int, dataset: str) -> bool:
        return any((entry['iter'], entry['dataset']) == (iteration, dataset) for entry in self.entries)

    def save(self) -> None:
        """Write the file, whole or not at all. Raises CheckpointError."""
        try:
            write_whole(self.path, json.dumps(self.entries, indent=1) + '\n')
        except OSError as error:
            raise CheckpointError(
                f'{self.path}: cannot be written ({error}); free disk space, then --auto_resume'
            ) from error


def _is_entry(entry: Any) -> bool:
    kinds = {'iter': int, 'dataset': str, 'metrics': dict, 'input': dict}
    return isinstance(entry, dict) and all(isinstance(entry.get(key), kind) for key, kind in kinds.items())
