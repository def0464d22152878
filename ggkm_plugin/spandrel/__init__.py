"""Support for spandrel's loader, which chaiNNer, ComfyUI and others use: ``ggkm_plugin.spandrel.install()``."""

from ggkm_plugin.utils.errors import OptionError


def install() -> None:
    """Register GGKMNet, GKMNet and NRKNet with spandrel's `MAIN_REGISTRY`. A second call changes nothing.

    Raises OptionError if spandrel is not installed.
    """
    try:
        import spandrel
    except ImportError as error:
        raise OptionError(
            "ggkm_plugin.spandrel: needs the package spandrel. Run pip install 'ggkm_plugin[models]'"
        ) from error
    from ggkm_plugin.spandrel.architectures import ARCHITECTURES, describe_loaded

    for architecture in ARCHITECTURES:
        support = spandrel.ArchSupport.from_architecture(architecture())
        spandrel.MAIN_REGISTRY.add(support, ignore_duplicates=True)
    describe_loaded(spandrel.ModelLoader)
