// The pictures, their error maps and the slider.

let maps = [];  // the error maps shown: {canvas, difference}, a canvas each
let mapSize = 1;  // of their canvases, relative to the pictures

const shownSources = () => view.shown.filter(source => pictured().includes(source));
const size = () => image()?.size ?? [1, 1];

function renderPanes() {
  maps = [];
  const picture = image();
  panes.dataset.mode = view.mode;
  if (!picture) panes.replaceChildren();
  else if (view.mode === 'slider') panes.replaceChildren(sliderPane(picture));
  else panes.replaceChildren(...shownSources().map(source => pane(picture, source)));
  layout();
}

function pane(picture, source) {
  const errors = withErrors(source);
  const label = errors ? `Error of ${sources[source].label}` : sources[source].label;
  const stage = el('div', {class: 'stage'});
  addLayer(stage, stage, picture, source, errors);
  stage.append(el('span', {class: 'mark'}));
  return el('figure', {class: 'pane box', 'data-source': source}, stage, el('figcaption', null, el('b', null, label), captionScores(picture, source)));
}

function captionScores(picture, source) {
  return data.metrics.map((metric, index) => {
    const own = score(picture, source, index);
    if (own === null) return null;
    const gain = sources[source].kind === 'model' ? own - (score(picture, 0, index) ?? NaN) : NaN;
    const better = gain * direction(index) > 0;
    const change = Number.isFinite(gain) && gain
      ? el('span', {class: better ? 'up' : 'down', title: 'compared with the input'}, ` ${better ? '\u25b2' : '\u25bc'}\u2009${text(Math.abs(gain), metric.digits)}`)
      : null;
    return el('span', null, `${metricName(index)} `, el('span', {class: 'value'}, scoreText(own, index)), change);
  });
}

/** Add a picture, or its error map, to `parent`; `stage` shows the progress. */
function addLayer(stage, parent, picture, source, errors) {
  const notice = el('div', {class: 'notice'}, 'loading\u2026');
  const [height, width] = size();
  const shape = `width: ${width}px; height: ${height}px`;
  const fail = reason => { notice.textContent = reason; notice.hidden = false; stage.dataset.state = 'missing'; };
  const done = () => { notice.hidden = true; stage.dataset.state = 'ready'; };
  parent.append(notice);
  if (!picture.files[source]) return fail('no picture');
  if (errors && !picture.files[truth]) return fail('no ground truth');
  const broken = () => fail(`${decodeURIComponent(picture.files[source])} cannot be shown.`);
  stage.dataset.state = 'loading';
  if (errors) {
    const canvas = el('canvas', {class: 'layer', width, height, style: shape, role: 'img', 'aria-label': `${picture.name}, error of ${sources[source].label}`});
    parent.prepend(canvas);
    Promise.all([load(picture.files[source]), load(picture.files[truth])]).then(([shown, wanted]) => {
      if (!canvas.isConnected) return;
      const map = {canvas, difference: absoluteDifference(shown, wanted)};
      maps.push(map);
      drawMap(map);
      done();
    }).catch(broken);
    return undefined;
  }
  const img = el('img', {class: 'layer', alt: `${picture.name}, ${sources[source].label}`, draggable: 'false', decoding: 'async', style: shape, onload: done, onerror: broken});
  img.src = picture.files[source];
  parent.prepend(img);
  return undefined;
}

function load(url) {
  return new Promise((resolve, reject) => {
    const img = new Image();
    img.onload = () => resolve(img);
    img.onerror = reject;
    img.src = url;
  });
}

// A page from disk may draw on a canvas but not read it (it is tainted): |a - b| is a composite operation, and the mean
// over the channels, the scale and the colors are an SVG filter.
function absoluteDifference(picture, wanted) {
  const [height, width] = size();
  const canvas = el('canvas', {width, height});
  const pen = canvas.getContext('2d');
  pen.drawImage(picture, 0, 0, width, height);
  pen.globalCompositeOperation = 'difference';
  pen.drawImage(wanted, 0, 0, width, height);
  return canvas;
}

/** Color the errors, averaged to about the size shown; a browser would skip pixels when it shrinks the canvas. */
function drawMap({canvas, difference}) {
  let errors = difference;
  for (let part = 1; part > mapSize; part /= 2) errors = halved(errors);
  Object.assign(canvas, {width: errors.width, height: errors.height});
  const pen = canvas.getContext('2d');
  if ('filter' in pen) pen.filter = 'url(#error-map)';
  else canvas.classList.add('mapped');  // then the element itself is filtered
  pen.drawImage(errors, 0, 0);
}

function halved(from) {
  const to = el('canvas', {width: Math.ceil(from.width / 2), height: Math.ceil(from.height / 2)});
  to.getContext('2d').drawImage(from, 0, 0, to.width, to.height);  // at half size, bilinear is the mean of 2x2
  return to;
}

/** Called by the zoom. */
function zoomed(zoom) {
  const wanted = Math.min(1, 2 ** Math.ceil(Math.log2(zoom * window.devicePixelRatio)));
  if (wanted === mapSize) return;
  mapSize = wanted;
  maps.forEach(drawMap);
}

function scaleErrors() {
  const gain = 100 / view.full / 3;
  const mean = `${gain} ${gain} ${gain} 0 0 `;
  $('error-map').querySelector('feColorMatrix').setAttribute('values', `${mean}${mean}${mean}0 0 0 0 1`);
  $('full-error').textContent = `\u2265 ${view.full}\u2009% (${Math.round(view.full * 2.55)} of 255)`;
  maps.forEach(drawMap);
}

function paintColors() {
  const table = data.colors.map(channels);
  ['R', 'G', 'B'].forEach((name, at) => $('error-map').querySelector(`feFunc${name}`).setAttribute(
    'tableValues', table.map(color => (color[at] / 255).toFixed(4)).join(' ')));
  document.querySelector('.scale .ramp').style.background = gradient(data.colors);
}

function sliderPane(picture) {
  const stage = el('div', {class: 'stage'});
  const above = el('div', {class: 'above'});
  addLayer(stage, stage, picture, view.left, false);
  addLayer(stage, above, picture, view.right, false);
  const handle = el('div', {
    class: 'handle', role: 'slider', tabindex: 0, 'aria-label': 'Border between the left and the right picture', 'aria-valuemin': 0,
    'aria-valuemax': 100, 'aria-valuenow': Math.round(view.split),
  });
  const move = split => {
    view.split = Math.min(100, Math.max(0, split));
    panes.style.setProperty('--split', `${view.split}%`);
    handle.setAttribute('aria-valuenow', Math.round(view.split));
    saveView();
  };
  handle.addEventListener('pointerdown', event => { event.stopPropagation(); handle.setPointerCapture(event.pointerId); });
  handle.addEventListener('pointermove', event => {
    if (!handle.hasPointerCapture(event.pointerId)) return;
    const box = stage.getBoundingClientRect();
    move((event.clientX - box.left) / box.width * 100);
  });
  handle.addEventListener('keydown', event => {
    const by = {ArrowLeft: -2, ArrowRight: 2, PageDown: -10, PageUp: 10, Home: -100, End: 100}[event.key];
    if (by === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    move(view.split + by);
  });
  panes.style.setProperty('--split', `${view.split}%`);
  stage.append(above, el('span', {class: 'side left'}, sources[view.left].label), el('span', {class: 'side right'}, sources[view.right].label), handle);
  const caption = source => el('div', null, el('b', null, sources[source].label), captionScores(picture, source));
  return el('figure', {class: 'pane box', 'data-source': 'slider'}, stage,
    el('figcaption', {class: 'pair'}, caption(view.left), caption(view.right)));
}

/** Choose the columns and the height that show the pictures largest. */
function layout() {
  const count = panes.children.length;
  if (!count) return;
  const [height, width] = size();
  const gap = 8;
  panes.style.gridTemplateColumns = `repeat(${Math.min(3, count)}, minmax(0, 1fr))`;  // about how the captions will wrap
  const captions = Math.max(...[...panes.querySelectorAll('figcaption')].map(caption => caption.offsetHeight)) + 2;
  const across = panes.getBoundingClientRect().width;
  // all panes at once on a wide screen; on a narrow one, where they would be too small, a little more than fits
  const most = wide.matches ? Math.min(1200, Math.max(360, window.innerHeight - 150)) : Math.max(320, 1.25 * window.innerHeight);
  let best = null;
  for (let columns = 1; columns <= count; columns++) {
    const rows = Math.ceil(count / columns);
    const paneWidth = (across - gap * (columns - 1)) / columns - 2;
    const paneHeight = Math.max(90, Math.min((most - (captions + gap) * rows) / rows, paneWidth * height / width));
    const scale = Math.min(paneWidth / width, paneHeight / height);
    if (paneWidth > 120 && (!best || scale > best.scale * 1.02)) best = {columns, paneWidth, paneHeight, scale};
  }
  best ??= {columns: 1, paneWidth: across - 2, paneHeight: across * height / width};
  room = {width: best.paneWidth, height: best.paneHeight};
  panes.style.gridTemplateColumns = `repeat(${best.columns}, minmax(0, 1fr))`;
  for (const stage of panes.querySelectorAll('.stage')) stage.style.height = `${best.paneHeight}px`;
  $('list').style.maxHeight = `${Math.max(220, panes.offsetHeight - 44)}px`;
  applyWindow();
}
