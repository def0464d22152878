// Controls and the pointer; starts the page.

/** Includes the pixel if it is kept. */
function addressOf() {
  const words = new URLSearchParams();
  for (const key of ['layer', 'color', 'reach']) if (view[key] !== defaults[key]) words.set(key, view[key]);
  if (!view.logarithmic) words.set('scale', 'value');
  if (view.pinned) words.set('pixel', [view.x, view.y]);
  if (view.window) words.set('at', windowText(view.window));
  return `#${words}`;
}

/** Read the view from the address; what this page lacks is ignored. */
function readAddress() {
  const words = new URLSearchParams(location.hash.slice(1));
  Object.assign(view, defaults);
  readNumber(words, 'layer', 0, data.pictures.length + data.radii.length - 1, true);
  readNumber(words, 'color', -1, data.weight ? 2 : -1, true);
  readNumber(words, 'reach', 1, Math.max(1, middle), true);
  view.logarithmic = words.get('scale') !== 'value';
  const [x, y] = (words.get('pixel') ?? '').split(',').map(Number);
  if (Number.isInteger(x) && Number.isInteger(y) && x >= 0 && y >= 0 && x < width && y < height) Object.assign(view, {x, y, pinned: true});
  view.window = readWindow(words.get('at'));
}

function zoomed() {}  // marks follow the zoom through CSS

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

/** Move by keys; a magnified view follows. */
function stepBy(dx, dy) {
  goTo(view.x + dx, view.y + dy);
  const {x, y, zoom} = current();
  const [at, down] = [(view.x + 0.5) / width, (view.y + 0.5) / height];
  const away = Math.abs(at - x) * width * zoom > room.width / 2 || Math.abs(down - y) * height * zoom > room.height / 2;
  if (view.window && away) look({x: at, y: down, zoom});
}

function wirePointer() {
  const stage = $('stage');
  let pressed = null;
  let dragged = false;
  stage.addEventListener('pointerdown', event => {
    pressed = [event.clientX, event.clientY];
    dragged = false;
  });
  stage.addEventListener('pointermove', event => {
    if (pressed && Math.hypot(event.clientX - pressed[0], event.clientY - pressed[1]) > 4) dragged = true;
    if (!view.pinned && !stage.classList.contains('dragging')) goTo(...pixelAt(stage, event.clientX, event.clientY));
  });
  stage.addEventListener('click', event => {
    if (dragged) return;
    view.pinned = event.pointerType === 'touch' || !view.pinned;  // touch cannot hover: each tap keeps a pixel
    goTo(...pixelAt(stage, event.clientX, event.clientY));
  });
  const steps = (dx, dy) => event => stepBy(dx * (event.shiftKey ? 10 : 1), dy * (event.shiftKey ? 10 : 1));
  onKeys(stage, {
    ArrowLeft: steps(-1, 0), ArrowRight: steps(1, 0), ArrowUp: steps(0, -1), ArrowDown: steps(0, 1),
    Enter: () => { view.pinned = !view.pinned; saveView(); },
  });
}

function wireControls() {
  $('about').append(...data.about.map(line => el('p', null, line)));
  $('warning').textContent = data.warning;
  $('output-layer').hidden = !data.weight;
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
  $('reach').max = String(Math.max(1, middle));
  const changes = {
    color: value => { view.color = Number(value); },
    scaling: value => { view.logarithmic = value === '1'; },
    reach: value => { view.reach = Number(value); },
  };
  for (const [id, change] of Object.entries(changes)) {
    $(id).addEventListener('input', event => {
      change(event.target.value);
      showControls();
      drawPsf();
      saveView();
    });
  }
}

function showControls() {
  const colors = data.weight ? ['mean of the three', 'red', 'green', 'blue'] : ['all alike: output layer left out'];
  choices($('color'), colors.map((name, index) => [index - 1, name]), view.color);
  choices($('scaling'), [[1, `by logarithm, ${data.decades} decades`], [0, 'by value']], Number(view.logarithmic));
  $('reach').value = String(view.reach);
  $('reach-text').textContent = `${view.reach} px`;
}

/** Restore the view from the address. */
function restore() {
  readAddress();
  showControls();
  drawLayer();
  layout();
  drawPsf();
}

/** As wide as there is room, and no taller than the window. */
function layout() {
  const across = panes.clientWidth;
  const tall = Math.max(320, window.innerHeight - 150);
  room = {width: across, height: Math.max(160, Math.min(across * height / width, tall))};
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
  wireZoom();
  wirePointer();
  wireControls();
  layout();
  [beta, kernels] = await Promise.all([unpacked(data.beta, Int8Array), unpacked(data.kernels, Float32Array)]);
  restore();
  window.addEventListener('resize', layout);
  followAddress(restore);
  document.body.dataset.state = 'ready';
}

start();
