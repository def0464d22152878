// Drawing of the chosen picture or map, and of the PSF with its coefficients.

const [NEGATIVE, POSITIVE] = data.signed.map(channels);

const logarithmic = share => Math.sign(share) * Math.max(0, 1 + Math.log10(Math.max(Math.abs(share), 1e-30)) / data.decades);

function paintSigned(pixels, at, share) {
  const target = share < 0 ? NEGATIVE : POSITIVE;
  const amount = Math.min(1, Math.abs(share));
  for (let channel = 0; channel < 3; channel++) pixels[at + channel] = Math.round(255 + amount * (target[channel] - 255));
  pixels[at + 3] = 255;
}

function drawPsf() {
  if (!kernels || view.x < 0) return;
  const colors = psfs(view.x, view.y);
  const b = view.color < 0 || colors.length === 1 ? mean(colors) : colors[view.color];
  const side = 2 * view.reach + 1;
  const canvas = $('psf');
  canvas.width = canvas.height = side;
  const image = canvas.getContext('2d').createImageData(side, side);
  const most = b.reduce((largest, value) => Math.max(largest, Math.abs(value)), 1e-30);
  for (let row = 0; row < side; row++) {
    for (let column = 0; column < side; column++) {
      const value = b[(row + middle - view.reach) * kernelSize + column + middle - view.reach];
      paintSigned(image.data, 4 * (row * side + column), view.logarithmic ? logarithmic(value / most) : value / most);
    }
  }
  canvas.getContext('2d').putImageData(image, 0, 0);
  const sum = b.reduce((total, value) => total + value, 0);
  $('facts').textContent = `(${view.x}, ${view.y}): effective radius ${text(effectiveRadius(colors), 2)} px, sum ${text(sum, 3)}`;
  drawCoefficients();
  place($('cross'), view.x, view.y);
  $('cross').hidden = false;
}

function drawCoefficients() {
  const bars = $('list').querySelectorAll('i');
  const values = $('list').querySelectorAll('.value');
  const largest = Math.max(...data.steps) * 127 || 1;
  coefficients(view.x, view.y).forEach((value, p) => {
    bars[p].style.left = `${value < 0 ? 50 + 50 * value / largest : 50}%`;
    bars[p].style.width = `${50 * Math.abs(value) / largest}%`;
    bars[p].style.background = value < 0 ? 'var(--cool)' : 'var(--warm)';
    values[p].textContent = text(value, 3);
  });
}

/** Center an element on a pixel, at every zoom. */
function place(element, x, y) {
  element.style.setProperty('--at-x', x + 0.5);
  element.style.setProperty('--at-y', y + 0.5);
}

function drawLayer() {
  const p = view.layer - data.pictures.length;
  $('picture').hidden = p >= 0;
  $('map').hidden = p < 0;
  document.querySelectorAll('#layers button').forEach((button, index) => button.setAttribute('aria-pressed', index === view.layer));
  $('coefficient').value = p < 0 ? '' : String(p);
  if (p < 0) drawPicture(...data.pictures[view.layer]);
  else drawMap(p);
}

function drawPicture(name, source, unit, high) {
  Object.assign($('picture'), {src: source, alt: name});
  $('scale').style.visibility = unit ? 'visible' : 'hidden';
  if (unit) legend(gradient(data.colors), '0', unit, text(high, 2));
}

function drawMap(p) {
  const pen = $('map').getContext('2d');
  const image = pen.createImageData(width, height);
  for (let i = 0; i < width * height; i++) paintSigned(image.data, 4 * i, beta[p * width * height + i] / 127);
  pen.putImageData(image, 0, 0);
  $('scale').style.visibility = 'visible';
  const most = text(data.steps[p] * 127, 3);
  legend(gradient([data.signed[0], '#fff', data.signed[1]]), `\u2212${most}`, `beta ${p + 1}`, most);
}

function legend(colors, low, unit, high) {
  $('ramp').style.background = colors;
  [$('low').textContent, $('unit').textContent, $('high').textContent] = [low, unit, high];
}
