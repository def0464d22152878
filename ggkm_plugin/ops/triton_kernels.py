"""Triton kernels of the blur as products of spectra, forward and backward; `fused` launches them.

Between them run ordinary complex FFTs. Two steps of the chain are one complex image, z_p + i z_{p+1}: as many bytes as
two real images, while torch copies the input of every inverse real FFT. With A and B the half spectra of the two,

    packed(k) = A(k) + i B(k),    packed(-k) = conj(A(k)) + i conj(B(k)),    k in the half plane,

and back, A(k) = (packed(k) + conj(packed(-k))) / 2 and B(k) = (packed(k) - conj(packed(-k))) / 2i.

u, gradient, out    (B,C,H,W), (B,C',H,W)   images, contiguous
beta                (B,M,H,W)               any dtype and strides
alpha               (B,P,Q)
rows, columns       (P,Q,F), (P,Q,G)        transfer functions of the kernels along either axis, G = N/2 + 1
weights             (P,C',C)                W_p, unless colours are not mixed (MIXED)
spectrum            (B,C,F,G)               half spectrum of the continued u; complex, like `packed`: pairs of floats
transfer, carried   (B,F,G)                 T, and the gradient of T of all that follows a step
packed              (B,K,C',F,N)            K pairs of steps, as full complex images or their spectra

All arithmetic is float32 (the transfer functions' is float64), never TF32; nothing is added by atomics, so that results
repeat bit by bit. Axis 0 of a grid counts tiles of a plane, axis 1 the batch. None of this has been timed on a GPU.
"""

import triton
import triton.language as tl


@triton.jit
def _tile(height, width, BLOCK_Y: tl.constexpr, BLOCK_X: tl.constexpr):
    """This program's rows (y,1) and columns (1,x) of a plane, and which of its pixels are inside (y,x)."""
    across = tl.cdiv(width, BLOCK_X)
    y = (tl.program_id(0) // across * BLOCK_Y + tl.arange(0, BLOCK_Y))[:, None]
    x = (tl.program_id(0) % across * BLOCK_X + tl.arange(0, BLOCK_X))[None, :]
    return y, x, (y < height) & (x < width)


@triton.jit
def _at(y, x, width):
    """Offsets in a plane, which may have more than 2^31 of them."""
    return y.to(tl.int64) * width + x


@triton.jit
def _load_complex(plane, at, inside):
    parts = tl.arange(0, 2)[None, None, :]
    return tl.split(tl.load(plane + 2 * at[:, :, None] + parts, mask=inside[:, :, None], other=0.0))


@triton.jit
def _store_complex(plane, at, real, imaginary, inside):
    parts = tl.arange(0, 2)[None, None, :]
    tl.store(plane + 2 * at[:, :, None] + parts, tl.join(real, imaginary), mask=inside[:, :, None])


@triton.jit
def _load_colours(images, at, inside, plane, COLOURS: tl.constexpr):
    loaded = ()
    for c in tl.static_range(COLOURS):
        loaded = loaded + (tl.load(images + c * plane + at, mask=inside, other=0.0),)
    return loaded


@triton.jit
def _load_spectrum(spectrum, at, inside, plane, COLOURS: tl.constexpr):
    """All colours' real parts, and imaginary parts."""
    real = ()
    imaginary = ()
    for c in tl.static_range(COLOURS):
        re, im = _load_complex(spectrum + 2 * c * plane, at, inside)
        real = real + (re,)
        imaginary = imaginary + (im,)
    return real, imaginary


@triton.jit
def _mixed(colours, weights, row: tl.constexpr, COLOURS: tl.constexpr, MIXED: tl.constexpr):
    """Colour `row` of W_p u, for weights that point at W_p."""
    if MIXED:
        total = tl.zeros_like(colours[0])
        for c in tl.static_range(COLOURS):
            total += tl.load(weights + row * COLOURS + c) * colours[c]
    else:
        total = colours[row]
    return total


@triton.jit
def _line(lines, j, q, at, length, Q: tl.constexpr):
    """The transfer function of kernel q of step j along an axis."""
    return tl.load(lines + (j * Q + q) * length + at, mask=at < length, other=0.0)


@triton.jit
def _factor(alpha, rows, columns, j, f, g, F, G, Q: tl.constexpr):
    """t of step j on a tile."""
    total = tl.load(alpha + j * Q) * _line(rows, j, 0, f, F, Q) * _line(columns, j, 0, g, G, Q)
    for q in tl.static_range(1, Q):
        total += tl.load(alpha + j * Q + q) * _line(rows, j, q, f, F, Q) * _line(columns, j, q, g, G, Q)
    return total


@triton.jit
def cosine_sums(taps, lines, period, reach, length, BLOCK: tl.constexpr):
    """Transfer functions (K, length) of symmetric taps (K, 2 reach + 1), at the frequencies k / period."""
    k = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    kernel = tl.program_id(1)
    middle = taps + kernel * (2 * reach + 1) + reach
    turn = tl.full([BLOCK], 6.283185307179586, tl.float64) / period.to(tl.float64)
    total = tl.zeros([BLOCK], tl.float64) + tl.load(middle).to(tl.float64)
    for m in range(1, reach + 1):
        cosine = tl.cos((m * k % period).to(tl.float64) * turn)
        total += 2 * tl.load(middle + m).to(tl.float64) * cosine
    tl.store(lines + kernel * length + k, total.to(tl.float32), mask=k < length)


@triton.jit
def _reflected(i, n):
    """The pixel of a line of n that stands at i under whole-sample reflection."""
    period = tl.maximum(2 * (n - 1), 1)
    there = (i % period + period) % period
    return tl.minimum(there, period - there)


@triton.jit
def extend(u, extended, height, width, F, N, margin, BLOCK_Y: tl.constexpr, BLOCK_X: tl.constexpr):
    """Continues planes (H,W) by reflection to (F,N), the image from (margin, margin) on."""
    f, n, inside = _tile(F, N, BLOCK_Y, BLOCK_X)
    plane = tl.program_id(1).to(tl.int64)
    at = _at(_reflected(f - margin, height), _reflected(n - margin, width), width)
    value = tl.load(u + plane * height * width + at, mask=inside, other=0.0)
    tl.store(extended + plane * F * N + _at(f, n, N), value, mask=inside)


@triton.jit
def collapse(
    extended, out, length, height, width, margin, AXIS: tl.constexpr, BLOCK_Y: tl.constexpr, BLOCK_X: tl.constexpr
):
    """The adjoint of `extend` along one axis: planes whose axis has `length` back to (H,W)."""
    y, x, inside = _tile(height, width, BLOCK_Y, BLOCK_X)
    plane = tl.program_id(1).to(tl.int64)
    if AXIS == 0:
        i, n, columns = y, height, width
    else:
        i, n, columns = x, width, length
    source = extended + plane * length * (width if AXIS == 0 else height)
    period = tl.maximum(2 * (n - 1), 1)
    total = tl.zeros([BLOCK_Y, BLOCK_X], tl.float32)
    for fold in range(tl.cdiv(length, period)):
        for mirrored in tl.static_range(2):
            shifted = margin - i if mirrored else margin + i
            there = (shifted % period + period) % period + fold * period
            # an edge pixel is its own mirror image, and stands once a period
            wanted = inside & (there < length) & ((2 * i % period != 0) | (mirrored == 0))
            at = _at(there, x, columns) if AXIS == 0 else _at(y, there, columns)
            total += tl.load(source + at, mask=wanted, other=0.0)
    tl.store(out + plane * height * width + _at(y, x, width), total, mask=inside)


@triton.jit(do_not_specialize=['first', 'pairs'])
def products(
    spectrum, alpha, rows, columns, weights, before, after, packed, first, pairs, P, F, N, scale,
    C: tl.constexpr, OUT: tl.constexpr, Q: tl.constexpr, MIXED: tl.constexpr, ITERATIVE: tl.constexpr,
    WRITE: tl.constexpr, BLOCK_Y: tl.constexpr, BLOCK_X: tl.constexpr,
):  # fmt: skip
    """scale * T_p W_p F(u) of the steps from `first` on, packed, if WRITE; T before them to T after, if ITERATIVE."""
    G = N // 2 + 1
    f, g, inside = _tile(F, G, BLOCK_Y, BLOCK_X)
    b = tl.program_id(1).to(tl.int64)
    at = _at(f, g, G)
    alpha += b * P * Q
    transfer = tl.load(before + b * F * G + at, mask=inside, other=0.0)
    if WRITE:
        u_re, u_im = _load_spectrum(spectrum + 2 * b * C * F * G, at, inside, tl.cast(F, tl.int64) * G, C)
        here, there = _at(f, g, N), _at(tl.where(f == 0, 0, F - f), N - g, N)
        twice = inside & (g > 0) & (2 * g < N)  # columns 0 and N/2 hold their own mirror images
    for i in range(pairs):
        j = first + 2 * i
        k = tl.minimum(j + 1, P - 1)  # past the last step stands the last: `fold` leaves its image out
        even = _factor(alpha, rows, columns, j, f, g, F, G, Q)
        odd = _factor(alpha, rows, columns, k, f, g, F, G, Q)
        if ITERATIVE:
            even *= transfer
            odd *= even
            transfer = odd
        if WRITE:
            for o in tl.static_range(OUT):
                a_re = scale * even * _mixed(u_re, weights + j * OUT * C, o, C, MIXED)
                a_im = scale * even * _mixed(u_im, weights + j * OUT * C, o, C, MIXED)
                b_re = scale * odd * _mixed(u_re, weights + k * OUT * C, o, C, MIXED)
                b_im = scale * odd * _mixed(u_im, weights + k * OUT * C, o, C, MIXED)
                plane = packed + 2 * ((b * pairs + i) * OUT + o) * F * N
                _store_complex(plane, here, a_re - b_im, a_im + b_re, inside)
                _store_complex(plane, there, a_re + b_im, b_re - a_im, twice)
    if ITERATIVE:
        tl.store(after + b * F * G + at, transfer, mask=inside)


@triton.jit
def _maps(beta, at, inside, p, maps, stride):
    """Maps p and p + 1, in float32; zeros past the last."""
    one = tl.load(beta + p * stride + at, mask=inside, other=0.0).to(tl.float32)
    other = tl.load(beta + tl.minimum(p + 1, maps - 1) * stride + at, mask=inside, other=0.0).to(tl.float32)
    return one, tl.where(p + 1 < maps, other, 0.0)


@triton.jit(do_not_specialize=['p', 'pairs'])
def fold(
    packed, u, beta, weight, out, p, pairs, maps, height, width, F, N, margin,
    beta_b: tl.int64, beta_m: tl.int64, beta_y: tl.int64, beta_x: tl.int64,
    C: tl.constexpr, OUT: tl.constexpr, MIXED: tl.constexpr, FIRST: tl.constexpr, IDENTITY: tl.constexpr,
    BLOCK_Y: tl.constexpr, BLOCK_X: tl.constexpr,
):  # fmt: skip
    """Adds beta * z to out, for the maps from p on; the FIRST call starts from beta_0 W_0 u (IDENTITY) or zeros."""
    y, x, inside = _tile(height, width, BLOCK_Y, BLOCK_X)
    b = tl.program_id(1).to(tl.int64)
    size = tl.cast(height, tl.int64) * width
    at = _at(y, x, width)
    beta += b * beta_b
    beta_at = y * beta_y + x * beta_x
    if not FIRST:
        total = _load_colours(out + b * OUT * size, at, inside, size, OUT)
    else:
        total = ()
        if IDENTITY:
            colours = _load_colours(u + b * C * size, at, inside, size, C)
            identity = tl.load(beta + beta_at, mask=inside, other=0.0).to(tl.float32)
        for o in tl.static_range(OUT):
            if IDENTITY:
                total = total + (identity * _mixed(colours, weight, o, C, MIXED),)
            else:
                total = total + (tl.zeros([BLOCK_Y, BLOCK_X], tl.float32),)
    window = _at(y + margin, x + margin, N)
    for i in range(pairs):
        one, other = _maps(beta, beta_at, inside, p + 2 * i, maps, beta_m)
        further = ()
        for o in tl.static_range(OUT):
            plane = packed + 2 * ((b * pairs + i) * OUT + o) * F * N
            even, odd = _load_complex(plane, window, inside)
            further = further + (total[o] + one * even + other * odd,)
        total = further
    for o in tl.static_range(OUT):
        tl.store(out + (b * OUT + o) * size + at, total[o], mask=inside)


@triton.jit(do_not_specialize=['p', 'pairs'])
def weigh(
    gradient, beta, packed, p, pairs, maps, height, width, F, N, margin,
    beta_b: tl.int64, beta_m: tl.int64, beta_y: tl.int64, beta_x: tl.int64,
    OUT: tl.constexpr, BLOCK_Y: tl.constexpr, BLOCK_X: tl.constexpr,
):  # fmt: skip
    """The adjoint of `fold`: beta times the gradient amid zeros, two maps a complex image."""
    f, n, inside = _tile(F, N, BLOCK_Y, BLOCK_X)
    b = tl.program_id(1).to(tl.int64)
    y, x = f - margin, n - margin
    shown = inside & (y >= 0) & (y < height) & (x >= 0) & (x < width)
    size = tl.cast(height, tl.int64) * width
    g = _load_colours(gradient + b * OUT * size, _at(y, x, width), shown, size, OUT)
    for i in range(pairs):
        one, other = _maps(beta + b * beta_b, y * beta_y + x * beta_x, shown, p + 2 * i, maps, beta_m)
        for o in tl.static_range(OUT):
            plane = packed + 2 * ((b * pairs + i) * OUT + o) * F * N
            _store_complex(plane, _at(f, n, N), one * g[o], other * g[o], inside)


@triton.jit(do_not_specialize=['p', 'pairs'])
def map_gradients(
    packed, gradient, d_beta, p, pairs, maps, height, width, F, N, margin,
    OUT: tl.constexpr, BLOCK_Y: tl.constexpr, BLOCK_X: tl.constexpr,
):  # fmt: skip
    """d_beta (B,M,H,W), contiguous, of the maps from p on: the gradient times z, summed over colours."""
    y, x, inside = _tile(height, width, BLOCK_Y, BLOCK_X)
    b = tl.program_id(1).to(tl.int64)
    size = tl.cast(height, tl.int64) * width
    at = _at(y, x, width)
    g = _load_colours(gradient + b * OUT * size, at, inside, size, OUT)
    window = _at(y + margin, x + margin, N)
    for i in range(pairs):
        one = tl.zeros([BLOCK_Y, BLOCK_X], tl.float32)
        other = tl.zeros([BLOCK_Y, BLOCK_X], tl.float32)
        for o in tl.static_range(OUT):
            plane = packed + 2 * ((b * pairs + i) * OUT + o) * F * N
            even, odd = _load_complex(plane, window, inside)
            one += g[o] * even
            other += g[o] * odd
        m = p + 2 * i
        target = d_beta + (b * maps + m) * size + at
        tl.store(target, one.to(d_beta.dtype.element_ty), mask=inside)
        if m + 1 < maps:
            tl.store(target + size, other.to(d_beta.dtype.element_ty), mask=inside)


@triton.jit
def _sum(values):
    return tl.sum(tl.sum(values, 1), 0)


@triton.jit
def identity_gradients(
    gradient, u, beta, weight, d_u, d_beta, sums, maps, height, width,
    beta_b: tl.int64, beta_y: tl.int64, beta_x: tl.int64,
    C: tl.constexpr, OUT: tl.constexpr, MIXED: tl.constexpr, BLOCK_Y: tl.constexpr, BLOCK_X: tl.constexpr,
):  # fmt: skip
    """Of beta_0 W_0 u: added to d_u, written to map 0 of d_beta, and each tile's part (B,tiles,C',C) of d_W_0."""
    y, x, inside = _tile(height, width, BLOCK_Y, BLOCK_X)
    b = tl.program_id(1).to(tl.int64)
    size = tl.cast(height, tl.int64) * width
    at = _at(y, x, width)
    colours = _load_colours(u + b * C * size, at, inside, size, C)
    g = _load_colours(gradient + b * OUT * size, at, inside, size, OUT)
    identity = tl.load(beta + b * beta_b + y * beta_y + x * beta_x, mask=inside, other=0.0).to(tl.float32)
    of_map = tl.zeros([BLOCK_Y, BLOCK_X], tl.float32)
    for o in tl.static_range(OUT):
        of_map += g[o] * _mixed(colours, weight, o, C, MIXED)
    tl.store(d_beta + b * maps * size + at, of_map.to(d_beta.dtype.element_ty), mask=inside)
    part = sums + (b * tl.num_programs(0) + tl.program_id(0)) * OUT * C
    for c in tl.static_range(C):
        back = tl.zeros([BLOCK_Y, BLOCK_X], tl.float32)
        if MIXED:
            for o in tl.static_range(OUT):
                back += tl.load(weight + o * C + c) * g[o]
                tl.store(part + o * C + c, _sum(identity * g[o] * colours[c]))
        else:
            back += g[c]
        target = d_u + (b * C + c) * size + at
        tl.store(target, tl.load(target, mask=inside, other=0.0) + identity * back, mask=inside)


@triton.jit
def _step_gradients(
    dual_re, dual_im, u_re, u_im, d_re, d_im, own, transfer, before, share, weights, alpha, rows, columns, sums,
    j, f, g, F, G, C: tl.constexpr, OUT: tl.constexpr, Q: tl.constexpr, MIXED: tl.constexpr,
):  # fmt: skip
    """What one step adds to u's spectrum's gradient and to `own`, that of its T; a tile's part of alpha's and W's."""
    further_re = ()
    further_im = ()
    for c in tl.static_range(C):
        if MIXED:
            back_re = tl.zeros_like(transfer)
            back_im = tl.zeros_like(transfer)
            for o in tl.static_range(OUT):
                w = tl.load(weights + (j * OUT + o) * C + c)
                back_re += w * dual_re[o]
                back_im += w * dual_im[o]
                inner = dual_re[o] * u_re[c] + dual_im[o] * u_im[c]
                tl.store(sums + Q + o * C + c, _sum(inner * transfer * share))
        else:
            back_re, back_im = dual_re[c], dual_im[c]
        own += (back_re * u_re[c] + back_im * u_im[c]) * share
        further_re = further_re + (d_re[c] + back_re * transfer,)
        further_im = further_im + (d_im[c] + back_im * transfer,)
    for q in tl.static_range(Q):
        line = _line(rows, j, q, f, F, Q) * _line(columns, j, q, g, G, Q)
        tl.store(sums + q, _sum(own * before * line))
    return further_re, further_im, own


@triton.jit(do_not_specialize=['first', 'pairs'])
def spectral_gradients(
    packed, spectrum, alpha, rows, columns, weights, before, carried, d_spectrum, sums, first, pairs, P, F, N, scale,
    C: tl.constexpr, OUT: tl.constexpr, Q: tl.constexpr, MIXED: tl.constexpr, ITERATIVE: tl.constexpr,
    BLOCK_Y: tl.constexpr, BLOCK_X: tl.constexpr,
):  # fmt: skip
    """The steps from `first` on, last one first, for `packed` = the spectra of what `weigh` made.

    Added to d_spectrum; `carried` is that of T of the step after them, and becomes that of the first; the tiles' parts
    of the gradients of alpha and W go to sums (B,tiles,2K,Q + C'C). `before` is T before the first of them.
    """
    G = N // 2 + 1
    f, g, inside = _tile(F, G, BLOCK_Y, BLOCK_X)
    b = tl.program_id(1).to(tl.int64)
    at, here = _at(f, g, G), _at(f, g, N)
    there = _at(tl.where(f == 0, 0, F - f), tl.where(g == 0, 0, N - g), N)
    # frequencies but the first and the last stand for their negatives too
    share = tl.where((g == 0) | (2 * g == N), scale, 2 * scale)
    alpha += b * P * Q
    SUMS: tl.constexpr = Q + OUT * C if MIXED else Q
    sums += (b * tl.num_programs(0) + tl.program_id(0)) * 2 * pairs * SUMS
    u_re, u_im = _load_spectrum(spectrum + 2 * b * C * F * G, at, inside, tl.cast(F, tl.int64) * G, C)
    d_re, d_im = _load_spectrum(d_spectrum + 2 * b * C * F * G, at, inside, tl.cast(F, tl.int64) * G, C)
    own = tl.zeros([BLOCK_Y, BLOCK_X], tl.float32)
    at_first = own + 1
    if ITERATIVE:
        own = tl.load(carried + b * F * G + at, mask=inside, other=0.0)
        at_first = tl.load(before + b * F * G + at, mask=inside, other=0.0)
    for back in range(pairs):
        i = pairs - 1 - back
        j = first + 2 * i
        k = tl.minimum(j + 1, P - 1)
        t_even = _factor(alpha, rows, columns, j, f, g, F, G, Q)
        t_odd = _factor(alpha, rows, columns, k, f, g, F, G, Q)
        earlier = at_first
        even, odd = t_even, t_odd
        if ITERATIVE:
            for step in range(first, j):
                earlier *= _factor(alpha, rows, columns, step, f, g, F, G, Q)
            even = earlier * t_even
            odd = even * t_odd
        half = tl.where(j + 1 < P, 0.5, 0.0)  # nothing, not even rounding, of a step past the last
        even_re = ()
        even_im = ()
        odd_re = ()
        odd_im = ()
        for o in tl.static_range(OUT):
            plane = packed + 2 * ((b * pairs + i) * OUT + o) * F * N
            re, im = _load_complex(plane, here, inside)
            mirror_re, mirror_im = _load_complex(plane, there, inside)
            even_re = even_re + (0.5 * (re + mirror_re),)
            even_im = even_im + (0.5 * (im - mirror_im),)
            odd_re = odd_re + (half * (im + mirror_im),)
            odd_im = odd_im + (half * (mirror_re - re),)
        d_re, d_im, own = _step_gradients(
            odd_re, odd_im, u_re, u_im, d_re, d_im, own, odd, even if ITERATIVE else at_first, share, weights,
            alpha, rows, columns, sums + (2 * i + 1) * SUMS, k, f, g, F, G, C, OUT, Q, MIXED,
        )  # fmt: skip
        own = own * t_odd if ITERATIVE else tl.zeros_like(own)
        d_re, d_im, own = _step_gradients(
            even_re, even_im, u_re, u_im, d_re, d_im, own, even, earlier, share, weights,
            alpha, rows, columns, sums + 2 * i * SUMS, j, f, g, F, G, C, OUT, Q, MIXED,
        )  # fmt: skip
        own = own * t_even if ITERATIVE else tl.zeros_like(own)
    for c in tl.static_range(C):
        _store_complex(d_spectrum + 2 * (b * C + c) * F * G, at, d_re[c], d_im[c], inside)
    if ITERATIVE:
        tl.store(carried + b * F * G + at, own, mask=inside)
