"""Importing this module registers every name of ours with basicsr; the entry point `basicsr.plugins` points here."""

from ggkm_plugin.utils import basicsr_imports

basicsr_imports.install()

from ggkm_plugin.archs import (  # noqa: E402
    aifnet_arch,  # noqa: F401
    attsrn_arch,  # noqa: F401
    dpdnets_arch,  # noqa: F401
    drbnet_arch,  # noqa: F401
    external_arch,  # noqa: F401
    ggkmnet_ablations_arch,  # noqa: F401
    ggkmnet_arch,  # noqa: F401
    gkmnet_arch,  # noqa: F401
    ifan_arch,  # noqa: F401
    kpac_arch,  # noqa: F401
    mdp_arch,  # noqa: F401
    nrknet_arch,  # noqa: F401
    srn_arch,  # noqa: F401
)
from ggkm_plugin.data import (  # noqa: E402
    mixed_defocus_dataset,  # noqa: F401
    paired_defocus_dataset,  # noqa: F401
    single_defocus_dataset,  # noqa: F401
    synthetic_defocus_dataset,  # noqa: F401
)
from ggkm_plugin.losses import ggkm_loss, gkm_loss, ifan_loss, nrk_loss, srn_loss  # noqa: E402, F401
from ggkm_plugin.metrics import defocus_metrics, perceptual  # noqa: E402, F401
from ggkm_plugin.models import defocus_model, jdrl_model  # noqa: E402, F401
