// The view in the page's address.

const INDEXED = {of: sources, minus: sources, across: sources, left: sources, right: sources};

function addressOf() {
  const words = new URLSearchParams();
  const changed = key => JSON.stringify(view[key]) !== JSON.stringify(defaults[key]);
  if (changed('dataset')) words.set('data', dataset().name);
  if (image()) words.set('image', image().name);
  if (changed('metric')) words.set('metric', data.metrics[view.metric].name);
  for (const key of Object.keys(INDEXED)) if (changed(key)) words.set(key, view[key] < 0 ? '' : sources[view[key]].key);
  for (const key of ['order', 'plot', 'filter', 'mode']) if (changed(key)) words.set(key, view[key]);
  if (changed('shown')) for (const source of view.shown) words.append('show', sources[source].key);
  if (changed('split')) words.set('split', view.split.toFixed(1));
  if (changed('full')) words.set('full', view.full);
  if (view.window) words.set('at', windowText(view.window));
  return `#${words}`;
}

/** Read the view from the address; names that this report lacks are ignored. */
function readAddress() {
  const words = new URLSearchParams(location.hash.slice(1));
  const find = (key, list, property) => (words.has(key) ? list.findIndex(item => item[property] === words.get(key)) : -1);
  Object.assign(view, defaults);
  view.dataset = Math.max(0, find('data', data.datasets, 'name'));
  view.image = find('image', dataset().images, 'name');
  view.metric = Math.max(0, find('metric', data.metrics, 'name'));
  for (const key of Object.keys(INDEXED)) {
    const found = find(key, sources, 'key');
    if (found >= 0) view[key] = found;
  }
  const allowed = {order: ['worst', 'best', 'name'], plot: ['sorted', 'scatter'], mode: ['pictures', 'errors', 'slider']};
  for (const [key, values] of Object.entries(allowed)) if (values.includes(words.get(key))) view[key] = words.get(key);
  view.filter = words.get('filter') ?? '';
  const shown = sources.flatMap((source, index) => (words.getAll('show').includes(source.key) ? [index] : []));
  if (shown.length) view.shown = shown;
  readNumber(words, 'split', 0, 100);
  readNumber(words, 'full', 1, 50);
  view.window = readWindow(words.get('at'));
}
