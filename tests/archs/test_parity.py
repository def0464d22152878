"""Parity of GGKMNet and its ablations with version 0.1.0: outputs, checkpoint keys and the start from a seed."""

import dataclasses
import json

import numpy as np
import pytest
from goldens import CASES, FILE, SMALL, STARTS, build, channels_of, filled, outputs, start

from ggkm_plugin.archs.ggkmnet_arch import GGKMNet, GGKMNetConfig
from ggkm_plugin.ops import blur_form


@pytest.fixture(scope='module')
def golden():
    with np.load(FILE) as file:
        return dict(file)


@pytest.fixture(scope='module')
def description(golden):
    return json.loads(golden['description'].tobytes())


@pytest.mark.parametrize('case', CASES)
def test_outputs_are_those_of_0_1_0(case, golden):
    """In float64; the stored values are rounded to float32."""
    got = outputs(filled(build(case)), channels_of(case))
    stored = {key.removeprefix(f'{case}/') for key in golden if key.startswith(f'{case}/')}
    assert set(got) == stored
    for name, array in got.items():
        want = golden[f'{case}/{name}']
        assert array.shape == want.shape
        np.testing.assert_allclose(array, want, rtol=2e-7, atol=1e-6, err_msg=name)


@pytest.mark.parametrize('form', ['auto', 'dct', 'fft', 'separable', 'reference'])
def test_the_option_blur_form_is_still_accepted(form, golden):
    """Checkpoints of 0.1.0 may store it; the results are those of every form, up to float64 rounding."""
    net = filled(GGKMNet(**SMALL, blur_form=form))
    for name, array in outputs(net, 3).items():
        np.testing.assert_allclose(array, golden[f'default/{name}'], rtol=2e-7, atol=1e-6, err_msg=name)
    with blur_form('separable'):
        np.testing.assert_allclose(outputs(net, 3)['eval'], golden['default/eval'], rtol=2e-7, atol=1e-6)


def test_every_option_has_a_case():
    later = {'first_size'}  # options that 0.1.0 lacked
    options = {field.name for field in dataclasses.fields(GGKMNetConfig)} - {'blur_form'} - later
    assert options <= {name for arch, given in CASES.values() if arch == 'GGKMNet' for name in given}


@pytest.mark.parametrize('case', CASES)
def test_checkpoint_keys_are_those_of_0_1_0(case, description):
    keys = {key: list(tensor.shape) for key, tensor in build(case).state_dict().items()}
    assert keys == description['keys'][case]


@pytest.mark.parametrize('case', STARTS)
def test_the_start_from_a_seed_is_that_of_0_1_0(case, description):
    for key, sums in start(build(case)).items():
        np.testing.assert_allclose(sums, description['starts'][case][key], rtol=0, atol=1e-5, err_msg=key)
