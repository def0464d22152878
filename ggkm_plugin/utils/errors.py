"""Errors that a user can cause. Each message names the file or key, the value and the fix."""


class UserError(Exception):
    """User's mistake: the CLI prints its message without a traceback and exits with `exit_code`."""

    exit_code = 1
    everywhere = False  # raised by every process of a run; only one prints it


class OptionError(UserError):
    """An option file, one of its keys or a command-line argument is wrong."""

    exit_code = 2


class BasicSRError(UserError, ImportError):
    """The installed basicsr is missing or not of the needed version."""


class DataError(UserError, ValueError):
    """A data folder, an image or a pair of images is missing, unreadable or inconsistent."""


class UnsupportedImageError(DataError):
    """An intact image of an unsupported kind, such as an animation or CMYK."""


class CropSizeError(UserError, ValueError):
    """A training crop does not fit the network's pyramid or the loss's window."""


class CheckpointError(UserError):
    """A checkpoint is missing, unreadable or does not fit the network, or could not be written."""


class TrainingError(UserError):
    """Training cannot continue: a NaN loss, or out of memory."""


class NotFiniteError(TrainingError):
    """The loss or its gradients are NaN or Inf."""

    everywhere = True


class LockError(OptionError):
    """Another process uses the same folder."""


class LostProcessError(UserError):
    """Another process of the same run has ended."""


class Interrupted(UserError):
    """A signal stopped a training, which has saved its state."""

    everywhere = True


def listed(items: list[str], most: int = 5) -> str:
    """Return the first names and the number of others: ``a, b, c (and 4 more)``."""
    shown = ', '.join(items[:most])
    return shown if len(items) <= most else f'{shown} (and {len(items) - most} more)'
