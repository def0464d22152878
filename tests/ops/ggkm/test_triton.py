"""Triton form of the blur, tested without a GPU: results in Triton's interpreter, compilation for GPUs, and memory.

Speed is not tested.
"""

import math
import re

import pytest
import torch
from interpreted import Case, run_all
from problems import problem, with_gradients

from ggkm_plugin.evaluation.complexity import LiveTensors
from ggkm_plugin.ops import ggkm_blur, ggkm_blur_ref
from ggkm_plugin.ops.ggkm import triton as kernels

CASES = {
    'odd sizes, several tiles, a batch': Case((7, 9), batch=2),
    'an odd number of steps': Case((8, 11), groups=3, kernels=2),
    'one pixel, one step, one color': Case((1, 1), groups=1, kernels=1, channels=1, margin=3),
    'no identity, other colors': Case((6, 5), channels=2, out_channels=1, identity=False),
    'a plain sum': Case((5, 14), mixed=False),
    'a plain sum without identity': Case((5, 6), mixed=False, identity=False),
    'not iterative': Case((9, 6), iterative=False),
    'bfloat16 maps': Case((9, 12), beta='bfloat16'),
    'float16 maps, channels last': Case((9, 12), beta='float16', channels_last=True),
    'two steps at once, stored states': Case((4, 6), groups=6, kernels=2, steps=2, margin=21, tile=(32, 32)),
    'lines of pixels, many reflections': Case((2, 40), margin=10, kernels=1),
    "the paper's bank": Case((20, 31), groups=21, kernels=4, margin=81, tile=(256, 128)),
}


@pytest.fixture(scope='module')
def results(tmp_path_factory):
    reason = 'needs Triton 3.7 or newer; the interpreter of older versions fails with current numpy'
    pytest.importorskip('triton', minversion='3.7', reason=reason)
    return dict(zip(CASES, run_all(list(CASES.values()), tmp_path_factory.mktemp('interpreted')), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize('name', CASES)
def test_values_and_gradients_are_within_1e_5_of_the_reference(results, name):
    """Through the public operator, the dispatcher and autograd; the reference runs in float64."""
    case = CASES[name]
    *inputs, bank = case.inputs()
    options = {'include_identity': case.identity, 'iterative': case.iterative}

    def reference(x, alpha, beta, mix=None):
        return ggkm_blur_ref(x, alpha, beta, bank, mix, **options)

    value, gradients = with_gradients(reference, inputs)
    got_value, got_gradients = results[name]
    # the gradient of beta has beta's dtype
    of_beta = max(1e-5, 2 * torch.finfo(getattr(torch, case.beta)).eps)
    tolerances = [1e-5, 1e-5, 1e-5, of_beta, 1e-5]
    pairs = zip((got_value, *got_gradients), (value, *gradients), strict=True)
    for (got, want), tolerance in zip(pairs, tolerances, strict=False):
        assert got.shape == want.shape
        assert (got - want).abs().max() <= tolerance * want.abs().max()


def launched(monkeypatch, case, backward=True):
    """Record (kernel, grid, arguments, constants) of the launches without running them."""
    calls = []
    monkeypatch.setattr(kernels, '_launch', lambda *call, **constants: calls.append((*call[:2], call[2:], constants)))
    x, alpha, beta, mix, bank = (each.float() for each in case.inputs())
    weights = mix.flatten(1).unflatten(1, (case.groups + case.identity, -1)).transpose(0, 1).contiguous()
    problem = (x, alpha, case.stored(beta), bank, weights, case.iterative, case.margin)
    kernels.blur(*problem)
    if backward:
        kernels.gradients(x, *problem)
    return calls


def specialized(kernel, arguments, constants):
    """Specialize a launch as Triton's compiler does: ones are constants, multiples of 16 are marked."""
    from triton.compiler import ASTSource

    types = {torch.float32: '*fp32', torch.bfloat16: '*bf16', torch.float16: '*fp16', float: 'fp32', int: 'i32'}
    constants = {name: value for name, value in constants.items() if name != 'num_warps'}
    signature, aligned = {}, {}
    for i, (parameter, value) in enumerate(zip(kernel.params, arguments, strict=False)):
        tensor = isinstance(value, torch.Tensor)
        signature[parameter.name] = parameter.annotation_type or types[value.dtype if tensor else type(value)]
        if type(value) is int and value == 1 and not parameter.do_not_specialize:
            signature[parameter.name], constants[parameter.name] = 'constexpr', 1
        elif tensor or (type(value) is int and value % 16 == 0 and not parameter.do_not_specialize):
            aligned[i,] = [['tt.divisibility', 16]]
    assert set(kernel.arg_names[len(arguments) :]) == constants.keys() - set(kernel.arg_names[: len(arguments)])
    signature |= dict.fromkeys(kernel.arg_names[len(arguments) :], 'constexpr')
    return ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=aligned)


@pytest.mark.slow
@pytest.mark.parametrize('capability', [80, 90])
@pytest.mark.parametrize(
    'case',
    [
        Case((40, 50), groups=21, kernels=4, margin=30, beta='bfloat16'),
        Case((40, 50), margin=30, channels=1, out_channels=2, iterative=False, identity=False, channels_last=True),
        Case((1, 1), groups=1, kernels=1, margin=7, beta='float16'),
    ],
    ids=['paper', 'other', 'one pixel'],
)
def test_every_launch_compiles_for_gpus(monkeypatch, tmp_path, capability, case):
    triton = pytest.importorskip('triton', reason='Triton is not installed')
    from triton.backends.compiler import GPUTarget

    monkeypatch.setenv('TRITON_CACHE_DIR', str(tmp_path))
    if not isinstance(kernels.fold, triton.JITFunction):
        pytest.skip('TRITON_INTERPRET is set: nothing is compiled')
    compiled = {}
    for kernel, _, arguments, constants in launched(monkeypatch, case):
        source = specialized(kernel, arguments, constants)
        key = (kernel.__name__, source.hash())
        if key not in compiled:
            options = {'num_warps': constants.get('num_warps', 4), 'enable_fp_fusion': True}
            compiled[key] = triton.compile(source, target=GPUTarget('cuda', capability, 32), options=options).asm['ptx']
    names = {name for name, _ in compiled}
    assert {'products', 'fold', 'weigh', 'spectral_gradients', 'map_gradients', 'collapse', 'cosine_sums'} <= names
    assert ('identity_gradients' in names) == case.identity
    for (name, _), code in compiled.items():
        assert 'mma' not in code  # no TF32
        assert not re.search(r'\b(atom|red)\.', code)  # no dependence on the order of threads
        if name in ('fold', 'weigh', 'map_gradients'):  # complex numbers are loaded in one piece
            assert '.global.v2' in code
        if name == 'spectral_gradients':  # one warp sums without barriers
            assert 'bar.sync' not in code


def images_alive(case, backward):
    """Count images of three colors that are alive at the peak, without inputs and the gradient of beta."""
    x, alpha, beta, mix, bank = (each.float() for each in case.inputs())
    weights = mix.flatten(1).unflatten(1, (case.groups + 1, -1)).transpose(0, 1).contiguous()
    problem = (x, alpha, beta, bank, weights, True, case.margin)
    live = LiveTensors([x, *problem[:5]])
    before = live.now
    with live:
        kernels.gradients(x, *problem) if backward else kernels.blur(*problem)
    maps = (case.groups + 1) / 3 if backward else 0
    return (live.peak - before) / (4 * x.numel()) - maps


@pytest.mark.parametrize('backward', [False, True])
def test_images_alive_do_not_grow_with_the_steps(monkeypatch, backward):
    """Forward: as many for 84 steps as for 21. Backward: at most sqrt(P) transfer functions (a third each) more."""
    monkeypatch.setattr(kernels, '_launch', lambda *_, **__: None)
    few, many = (images_alive(Case((160, 170), groups, 1, margin=5), backward) for groups in (21, 84))
    assert many < few + (math.sqrt(84) / 3 if backward else 0.5)
    assert few < 26  # eight steps at once, as spectra and as images


def test_unavailable_is_an_error_on_request():
    x, alpha, beta, mix, bank = problem((5, 6))
    with pytest.raises(ValueError, match='float64'):
        ggkm_blur(x, alpha, beta, bank, mix, form='fused', margin=10)
    with pytest.raises(ValueError, match='reflect'):
        ggkm_blur(x, alpha, beta, bank, mix, 'zeros', form='fused', margin=10)
    with pytest.raises(ValueError, match='Triton'):  # not installed, or no GPU
        ggkm_blur(*(each.float() for each in (x, alpha, beta, bank, mix)), form='fused', margin=10)
