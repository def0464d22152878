// Controls, the pointer, and the beginning: the last of the scripts.

let saving = 0;

/** The view goes into the page's address, and the pixel if it is kept. */
function saveView() {
  clearTimeout(saving);
  saving = setTimeout(() => {
    const words = new URLSearchParams({layer: view.layer});
    if (view.pinned) words.set('pixel', [view.x, view.y]);
    if (view.window) words.set('at', [view.window.x.toFixed(5), view.window.y.toFixed(5), view.window.zoom.toFixed(4)]);
    history.replaceState(null, '', `#${words}`);
  }, 150);
}

/** What the address says and this page has not stays as it starts. */
function readAddress() {
  const words = new URLSearchParams(location.hash.slice(1));
  const layer = Number(words.get('layer') ?? NaN);
  if (Number.isInteger(layer) && layer >= 0 && layer < data.pictures.length + data.radii.length) view.layer = layer;
  const [x, y] = (words.get('pixel') ?? '').split(',').map(Number);
  if (Number.isInteger(x) && Number.isInteger(y) && x >= 0 && y >= 0 && x < width && y < height) Object.assign(view, {x, y, pinned: true});
  const [across, down, zoom] = (words.get('at') ?? '').split(',').map(Number);
  if (across >= 0 && across <= 1 && down >= 0 && down <= 1 && zoom > 0 && zoom <= MAX_ZOOM) view.window = {x: across, y: down, zoom};
}

function zoomed() {}  // marks follow the zoom by themselves

function show(layer) {
  view.layer = layer;
  drawLayer();
  saveView();
}

function goTo(x, y) {
  [view.x, view.y] = [Math.min(width - 1, Math.max(0, x)), Math.min(height - 1, Math.max(0, y))];
  drawPsf();
  saveView();
}

function wirePointer() {
  const stage = $('stage');
  let pressed = null;
  stage.addEventListener('pointerdown', event => { pressed = [event.clientX, event.clientY]; });
  stage.addEventListener('pointermove', event => {
    if (!view.pinned && !stage.classList.contains('dragging')) goTo(...pixelAt(stage, event.clientX, event.clientY));
  });
  stage.addEventListener('click', event => {
    if (pressed && Math.hypot(event.clientX - pressed[0], event.clientY - pressed[1]) > 4) return;  // it was dragged
    view.pinned = !view.pinned;
    goTo(...pixelAt(stage, event.clientX, event.clientY));
  });
  stage.addEventListener('keydown', event => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const far = event.shiftKey ? 10 : 1;
    const by = {ArrowLeft: [-far, 0], ArrowRight: [far, 0], ArrowUp: [0, -far], ArrowDown: [0, far]}[event.key];
    if (!by && !ZOOM_KEYS[event.key]) return;
    event.preventDefault();
    if (by) goTo(view.x + by[0], view.y + by[1]);
    else ZOOM_KEYS[event.key]();
  });
}

function wireControls() {
  $('about').append(...data.about.map(line => el('p', null, line)));
  $('warning').textContent = data.warning;
  const names = data.radii.map((radius, p) => `\u03b2 ${p + 1}: ${radius < 1e-3 ? 'identity' : `K of radius ${text(radius, 2)} px`}`);
  $('layers').append(
    ...data.pictures.map(([name], index) => el('button', {type: 'button', onclick: () => show(index)}, name)),
    el('select', {
      id: 'coefficient', 'aria-label': 'Coefficient map',
      onchange: event => show(event.target.value === '' ? 0 : data.pictures.length + Number(event.target.value)),
    }, [['', 'coefficient map \u2026'], ...names.entries()].map(([value, name]) => el('option', {value}, name))));
  $('list').append(...data.radii.flatMap((radius, p) => [
    el('span', null, `${p + 1}: ${text(radius, 2)} px`), el('span', {class: 'track'}, el('i')), el('span', {class: 'value'}),
  ]));
  const colours = data.weight ? ['mean of the three', 'red', 'green', 'blue'] : ['all alike: output layer left out'];
  choices($('colour'), colours.map((name, index) => [index - 1, name]), view.colour);
  $('colour').addEventListener('change', event => { view.colour = Number(event.target.value); drawPsf(); });
  choices($('scaling'), [[1, `by logarithm, ${data.decades} decades`], [0, 'by value']], 1);
  $('scaling').addEventListener('change', event => { view.logarithmic = event.target.value === '1'; drawPsf(); });
  const reach = () => {
    view.reach = Number($('reach').value);
    $('reach-text').textContent = `${view.reach} px`;
    drawPsf();
  };
  $('reach').max = String(Math.max(1, middle));
  $('reach').value = String(view.reach);
  $('reach').addEventListener('input', reach);
  reach();
}

/** As wide as there is room; on a wide screen no taller than the window. */
function layout() {
  const across = panes.clientWidth;
  const tall = Math.max(320, window.innerHeight - 150);
  room = {width: across, height: Math.min(across * height / width, tall)};
  $('stage').style.height = `${room.height}px`;
  applyWindow();
}

async function start() {
  for (const layer of [$('picture'), $('map')]) Object.assign(layer.style, {width: `${width}px`, height: `${height}px`});
  Object.assign($('map'), {width, height});
  for (const [letter, x, y] of data.marks) {
    const mark = el('div', {class: 'mark'}, el('span', null, letter));
    place(mark, x, y);
    $('stage').append(mark);
  }
  if (data.marks.length) [, view.x, view.y] = data.marks[0];
  readAddress();
  wireZoom();
  wirePointer();
  wireControls();
  layout();
  window.addEventListener('resize', layout);
  [beta, kernels] = await Promise.all([unpacked(data.beta, Int8Array), unpacked(data.kernels, Float32Array)]);
  drawLayer();
  drawPsf();
  document.body.dataset.state = 'ready';
}

start();
