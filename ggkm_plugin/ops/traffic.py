"""How many bytes the blur has to move through a GPU's memory, and how many `fused` moves, counted on paper.

For holding measured times against, and no claim about them. Caches are left out, which lower it; cuFFT is taken to go
over its data once for either axis. What is small is left out too: alpha, transfer functions, tiles' sums. Maps of beta
that do not lie contiguous along rows cost more than is counted.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from ggkm_plugin.ops.bases import fast_length
from ggkm_plugin.ops.steps import backwards, chunks_of, steps_at_once


@dataclass(frozen=True)
class Traffic:
    """Bytes: `compulsory` to read all inputs and write all results once, `moved` by the kernels and transforms."""

    compulsory: int
    moved: int


def bytes_moved(
    sizes: Iterable[tuple[int, int]],
    margin: int,
    groups: int = 21,
    batch: int = 1,
    channels: int = 3,
    out_channels: int = 3,
    identity: bool = True,
    beta_bytes: int = 4,
    backward: bool = False,
) -> Traffic:
    """Of the blur of images of some sizes, a network's scales, one after the other; or of its gradients alone.

    margin: in pixels, as for `mixture.ggkm_blur`. beta_bytes: of a coefficient, 4 or 2.
    """
    compulsory = moved = 0
    for height, width in sizes:
        rows, columns = fast_length(height + 2 * margin), fast_length(width + 2 * margin)
        # planes of the batch: images, coefficients, images with margins, half spectra, transfer functions
        image, coefficients = 4 * batch * height * width, beta_bytes * batch * height * width
        extended, half = 4 * batch * rows * columns, 8 * batch * rows * (columns // 2 + 1)
        transfer, maps = half // 2, groups + identity
        chunks = chunks_of(groups, steps_at_once(batch * out_channels * rows * columns))
        n, pairs = len(chunks), sum(-(-len(chunk) // 2) for chunk in chunks)
        packed, window = 2 * pairs * out_channels * extended, 2 * pairs * out_channels * image

        spectrum = channels * (image + extended + extended + half + 2 * half)
        products = n * (channels * half + 2 * transfer) + packed
        moved += spectrum + products + 4 * packed
        if not backward:
            fold = window + maps * coefficients + (2 * n - 1) * out_channels * image + identity * channels * image
            moved += fold
            compulsory += (channels + out_channels) * image + maps * coefficients
            continue
        map_gradients = window + n * out_channels * image + groups * coefficients
        weigh = n * out_channels * image + groups * coefficients + packed
        spectral_gradients = packed + n * (3 * channels * half + 3 * transfer)
        inverse = channels * (5 * half + 3 * extended)  # torch copies before and scales after
        collapse = channels * (extended + 2 * extended * width // columns + image)
        identity_gradients = identity * ((3 * channels + out_channels) * image + 2 * coefficients)
        moved += _advances(n) * 2 * transfer + map_gradients + weigh + 4 * packed + spectral_gradients
        moved += inverse + collapse + identity_gradients
        compulsory += (2 * channels + out_channels) * image + 2 * maps * coefficients
    return Traffic(compulsory, moved)


def _advances(count: int) -> int:
    """How often `backwards` makes a state again."""
    made: list[int] = []
    for _ in backwards(count, None, lambda i, state: made.append(i)):
        pass
    return len(made)
