// View, and the PSF of a pixel.

const {width, height} = data;
const kernelSize = data.size;
const middle = (kernelSize - 1) / 2;
const [, startX, startY] = data.marks[0] ?? [null, -1, -1];
const defaults = {layer: 0, x: startX, y: startY, pinned: false, color: -1, reach: data.reach, logarithmic: true, window: null};
const view = {...defaults};
const size = () => [height, width];
let beta = null;
let kernels = null;

/** Decode numbers from compressed bytes in base64. */
async function unpacked(packed, Kind) {
  const bytes = Uint8Array.from(atob(packed), character => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('deflate'));
  return new Kind(await new Response(stream).arrayBuffer());
}

const coefficients = (x, y) => data.steps.map((step, p) => step * beta[(p * height + y) * width + x]);

/** b, one array per color; a single one without the output layer. */
function psfs(x, y) {
  const here = coefficients(x, y);
  return (data.weight ?? [here.map(() => 1)]).map(weight => {
    const b = new Float64Array(kernelSize * kernelSize);
    here.forEach((value, p) => {
      const factor = value * weight[p];
      const start = p * b.length;
      if (factor) for (let i = 0; i < b.length; i++) b[i] += factor * kernels[start + i];
    });
    return b;
  });
}

function effectiveRadius(colors) {
  let moment = 0;
  let total = 0;
  for (const b of colors) {
    for (let i = 0; i < b.length; i++) {
      const dy = Math.floor(i / kernelSize) - middle;
      const dx = i % kernelSize - middle;
      moment += (dx * dx + dy * dy) * Math.abs(b[i]);
      total += Math.abs(b[i]);
    }
  }
  return total ? Math.sqrt(moment / total) : 0;
}

const mean = colors => colors[0].map((_, i) => colors.reduce((sum, b) => sum + b[i], 0) / colors.length);
