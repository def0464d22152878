"""The errors a user can cause. Each message names the file or key, the value, and the fix; the CLI prints it alone."""


class UserError(Exception):
    """A mistake outside the code: the CLI prints the message without a traceback and exits with `exit_code`."""

    exit_code = 1
    everywhere = False  # every process of a run raises it, so that one is enough to tell


class OptionError(UserError):
    """An option file, a key in it or a command-line word is wrong."""

    exit_code = 2


class BasicSRError(UserError, ImportError):
    """The installed basicsr is missing or not of the needed version."""


class DataError(UserError, ValueError):
    """A data folder, an image or a pair of images is missing, unreadable or inconsistent."""


class UnsupportedImageError(DataError):
    """An intact image of a kind that is not read, such as an animation or CMYK."""


class CropSizeError(UserError, ValueError):
    """A training crop does not fit the network's pyramid or the loss's window."""


class CheckpointError(UserError):
    """A checkpoint is missing, unreadable or does not fit the network, or could not be written."""


class TrainingError(UserError):
    """Training cannot go on: the loss is not a number, or the memory is full."""


class NotFiniteError(TrainingError):
    """The loss or its gradients are infinite or no numbers."""

    everywhere = True


class LockError(OptionError):
    """Another process writes the same folder."""


class LostProcessError(UserError):
    """Another process of the same run has ended."""


class Interrupted(UserError):
    """A signal asked a training to end; everything up to then is saved."""

    everywhere = True


def listed(items: list[str], most: int = 5) -> str:
    """The first few of many names, and how many are left out: ``a, b, c (and 4 more)``."""
    shown = ', '.join(items[:most])
    return shown if len(items) <= most else f'{shown} (and {len(items) - most} more)'
