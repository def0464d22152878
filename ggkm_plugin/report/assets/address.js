// The view in the page's address. A page defines `addressOf()`, its view as words.

let saving = 0;

function saveView() {
  clearTimeout(saving);
  saving = setTimeout(() => history.replaceState(null, '', addressOf()), 150);
}

/** Call `restore` when the address changes, but not by `saveView`. */
function followAddress(restore) {
  window.addEventListener('hashchange', () => { if (location.hash !== addressOf()) restore(); });
}

const windowText = ({x, y, zoom}) => [x.toFixed(5), y.toFixed(5), zoom.toFixed(4)].join(',');

/** The window that `windowText` wrote; null, which fits, for anything else. */
function readWindow(words) {
  const [x, y, zoom] = (words ?? '').split(',').map(Number);
  return x >= 0 && x <= 1 && y >= 0 && y <= 1 && zoom > 0 && zoom <= MAX_ZOOM ? {x, y, zoom} : null;
}

/** Read a number between two bounds into `view`; anything else changes nothing. */
function readNumber(words, key, low, high, whole = false) {
  const found = Number(words.get(key) ?? NaN);
  if (found >= low && found <= high && (!whole || Number.isInteger(found))) view[key] = found;
}
