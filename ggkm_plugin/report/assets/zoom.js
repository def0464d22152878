// Zoom and pan: three CSS variables for all panes.
// A page defines `view.window`, null for all of the picture or {x, y, zoom}: center (0 to 1) and CSS pixels per pixel;
// `size()`, height and width of its pictures; and `zoomed(zoom)`, called after changes.

const MAX_ZOOM = 32;
const panes = $('panes');
let room = {width: 1, height: 1};  // of one pane, in CSS pixels; equal for all panes

const fitting = () => Math.min(room.width / size()[1], room.height / size()[0]);
const least = () => Math.min(1, fitting());  // small pictures can be shown at their own size
const current = () => view.window ?? {x: 0.5, y: 0.5, zoom: fitting()};

function applyWindow() {
  if (view.window && (view.window.zoom < least() * 0.999 || Math.abs(view.window.zoom / fitting() - 1) < 0.001)) view.window = null;
  const [height, width] = size();
  const {x, y, zoom} = current();
  panes.style.setProperty('--zoom', zoom);
  panes.style.setProperty('--x', `${room.width / 2 - x * width * zoom}px`);
  panes.style.setProperty('--y', `${room.height / 2 - y * height * zoom}px`);
  panes.classList.toggle('magnified', zoom > 2);
  zoomed(zoom);
  panes.classList.toggle('fits', !view.window);
  $('zoom').textContent = `${Math.round(zoom * 100)}\u2009%`;
}

function look(wanted) {
  const zoom = Math.min(MAX_ZOOM, wanted.zoom);
  const within = value => zoom < fitting() ? 0.5 : Math.min(1, Math.max(0, value));
  view.window = {x: within(wanted.x), y: within(wanted.y), zoom};
  applyWindow();
  saveView();
}

/** Zoom by `factor` and keep the point `dx`, `dy` CSS pixels from the pane's center in place. */
function zoomBy(factor, dx = 0, dy = 0) {
  const [height, width] = size();
  const {x, y, zoom} = current();
  const next = Math.min(MAX_ZOOM, Math.max(least(), zoom * factor));
  look({x: x + dx / width * (1 / zoom - 1 / next), y: y + dy / height * (1 / zoom - 1 / next), zoom: next});
}

function panBy(dx, dy) {
  const [height, width] = size();
  const {x, y, zoom} = current();
  if (view.window) look({x: x - dx / width / zoom, y: y - dy / height / zoom, zoom});
}

/** The pixel [x, y] of the pictures at a point of the window, or the nearest one. */
function pixelAt(stage, clientX, clientY) {
  const [height, width] = size();
  const {x, y, zoom} = current();
  const box = stage.getBoundingClientRect();
  const along = (from, room, center, count) => Math.min(count - 1, Math.max(0, Math.floor((from - room / 2) / zoom + center * count)));
  return [along(clientX - box.left, room.width, x, width), along(clientY - box.top, room.height, y, height)];
}

const ZOOM_KEYS = {
  '+': () => zoomBy(1.5), '=': () => zoomBy(1.5), '-': () => zoomBy(1 / 1.5), 0: () => look({x: 0.5, y: 0.5, zoom: 0}),
};

/** Run the action of a key, one of `actions` or of the zoom, unless the target matches `ignored`. */
function onKeys(element, actions, ignored = ':not(*)') {
  element.addEventListener('keydown', event => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches(ignored)) return;
    const action = {...ZOOM_KEYS, ...actions}[event.key];
    if (!action) return;
    event.preventDefault();
    action(event);
  });
}

function wireZoom() {
  const button = (id, words, onclick, label) => el('button', {type: 'button', id, 'aria-label': label, onclick}, words);
  $('zoom-bar').append(
    el('span', {class: 'group joined', role: 'group', 'aria-label': 'Zoom'},
      button('out', '\u2212', ZOOM_KEYS['-'], 'Zoom out'), button('fit', 'Fit', ZOOM_KEYS[0]),
      button('actual', '100\u2009%', () => look({...current(), zoom: 1})), button('in', '+', ZOOM_KEYS['+'], 'Zoom in')),
    el('span', {class: 'soft', id: 'zoom'}));
  wirePanes();
}

function wirePanes() {
  const pointers = new Map();
  const fromCenter = (stage, x, y) => {
    const box = stage.getBoundingClientRect();
    return [x - box.left - box.width / 2, y - box.top - box.height / 2];
  };
  panes.addEventListener('wheel', event => {
    const stage = event.target.closest('.stage');
    if (!stage) return;
    event.preventDefault();
    const pixels = event.deltaY * (event.deltaMode === 1 ? 16 : event.deltaMode === 2 ? 400 : 1);
    zoomBy(Math.exp(-Math.max(-200, Math.min(200, pixels)) / (event.ctrlKey ? 100 : 400)), ...fromCenter(stage, event.clientX, event.clientY));
  }, {passive: false});
  panes.addEventListener('pointerdown', event => {
    const stage = event.target.closest('.stage');
    if (!stage || event.button) return;
    stage.setPointerCapture(event.pointerId);
    stage.classList.add('dragging');
    pointers.set(event.pointerId, {x: event.clientX, y: event.clientY});
  });
  panes.addEventListener('pointermove', event => {
    const stage = event.target.closest('.stage');
    if (stage && event.pointerType === 'mouse') {
      const box = stage.getBoundingClientRect();
      panes.style.setProperty('--mark-x', `${event.clientX - box.left}px`);
      panes.style.setProperty('--mark-y', `${event.clientY - box.top}px`);
      panes.classList.add('pointed');
    }
    const before = pointers.get(event.pointerId);
    if (!before || !stage) return;
    const now = {x: event.clientX, y: event.clientY};
    if (pointers.size === 1) panBy(now.x - before.x, now.y - before.y);
    if (pointers.size === 2) {
      const [other] = [...pointers].filter(([id]) => id !== event.pointerId).map(([, point]) => point);
      const spread = Math.hypot(before.x - other.x, before.y - other.y);
      const center = point => [(point.x + other.x) / 2, (point.y + other.y) / 2];
      if (spread > 4) zoomBy(Math.hypot(now.x - other.x, now.y - other.y) / spread, ...fromCenter(stage, ...center(now)));
      panBy((now.x - before.x) / 2, (now.y - before.y) / 2);
    }
    pointers.set(event.pointerId, now);
  });
  const release = event => {
    pointers.delete(event.pointerId);
    if (!pointers.size) for (const stage of panes.querySelectorAll('.dragging')) stage.classList.remove('dragging');
  };
  panes.addEventListener('pointerup', release);
  panes.addEventListener('pointercancel', release);
  panes.addEventListener('pointerleave', () => panes.classList.remove('pointed'));
  panes.addEventListener('dblclick', () => look({x: 0.5, y: 0.5, zoom: 0}));
}
