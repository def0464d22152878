// Controls, and redrawing after a change of the view.

const scored = () => sources.flatMap((_, source) => (dataset().images.some(picture => picture.scores[source].some(found => found !== null)) ? [source] : []));
const pictured = () => sources.flatMap((_, source) => (dataset().images.some(picture => picture.files[source]) ? [source] : []));
const withErrors = source => view.mode === 'errors' && source !== truth && ['input', 'model'].includes(sources[source].kind);
const canErr = () => Boolean(dataset().images.some(picture => picture.files[truth]));

function renderControls() {
  const numbers = scored();
  const pictures = pictured();
  const labels = list => list.map(source => [source, sources[source].label]);
  const among = (chosen, list) => (list.includes(chosen) ? chosen : list[0] ?? 0);
  view.of = among(view.of, numbers);
  view.across = among(view.across, numbers);
  if (!numbers.includes(view.minus)) view.minus = -1;
  view.left = among(view.left, pictures);
  if (!pictures.includes(view.right)) view.right = pictures.at(-1) ?? 0;
  if (view.mode === 'errors' && !canErr()) view.mode = 'pictures';
  $('data-choice').parentElement.hidden = data.datasets.length < 2;
  choices($('data-choice'), data.datasets.map((set, index) => [index, set.name]), view.dataset);
  choices($('metric'), data.metrics.map((_, index) => [index, `${metricName(index)} ${arrow(index)}`]), view.metric);
  choices($('of'), labels(numbers), view.of);
  choices($('minus'), [[-1, '\u2013'], ...labels(numbers)], view.minus);
  choices($('across'), labels(numbers), view.across);
  choices($('left'), labels(pictures), view.left);
  choices($('right'), labels(pictures), view.right);
  $('order').value = view.order;
  $('filter').value = view.filter;
  $('full').value = view.full;
  for (const element of document.querySelectorAll('.scored')) element.hidden = !numbers.length;
  $('unscored').hidden = Boolean(numbers.length) || dataset().has_gt;
  $('unscored').textContent = `No ground truth: pictures only, without scores and error maps. ${dataset().note ?? ''}`;
  if (numbers.length) for (const button of document.querySelectorAll('[data-jump]')) button.title = `of the images by ${valueName()}`;
  for (const button of document.querySelectorAll('[data-plot]')) button.setAttribute('aria-pressed', button.dataset.plot === view.plot);
  for (const button of document.querySelectorAll('[data-mode]')) button.setAttribute('aria-pressed', button.dataset.mode === view.mode);
  const errors = document.querySelector('[data-mode=errors]');
  errors.hidden = !data.datasets.some(set => set.has_gt);
  errors.disabled = !canErr();
  errors.title = canErr() ? '' : 'Error maps need a ground truth';
  document.querySelector('[data-mode=slider]').disabled = pictures.length < 2;
  document.querySelector('.scatter-only').hidden = view.plot !== 'scatter';
  for (const element of document.querySelectorAll('.slider-only')) element.hidden = view.mode !== 'slider';
  for (const element of document.querySelectorAll('.not-slider')) element.hidden = view.mode === 'slider';
  document.querySelector('.errors-only').hidden = view.mode !== 'errors';
  $('shown').replaceChildren(...pictures.map(source => el('button', {
    type: 'button', 'aria-pressed': view.shown.includes(source), 'data-source': source, onclick: () => togglePicture(source),
  }, sources[source].label)));
  $('curves').replaceChildren(...(view.plot === 'sorted' && view.minus < 0 ? numbers : []).map(source => el('button', {
    type: 'button', 'aria-pressed': !hiddenCurves.has(source), style: `--c: var(${color(source)})`, 'data-curve': source,
    onclick: () => {
      if (!hiddenCurves.delete(source)) hiddenCurves.add(source);
      renderControls();
      $('curves').querySelector(`[data-curve="${source}"]`)?.focus();
      renderPlot();
    },
  }, svg('svg', {width: 12, height: 12, 'aria-hidden': 'true'}, dot(6, 6, source, 4)), sources[source].label)));
}

function togglePicture(source) {
  const shown = view.shown.includes(source) ? view.shown.filter(other => other !== source) : [...view.shown, source].sort((a, b) => a - b);
  if (!shown.some(other => pictured().includes(other))) return;
  set({shown});
  $('shown').querySelector(`[data-source="${source}"]`)?.focus();
}

const color = source => (source === 0 ? '--soft' : `--s${(source - 1) % 8}`);

/** Change the view and redraw what depends on it. */
function set(change) {
  const has = key => key in change;
  if (has('dataset') || (has('image') && change.image !== view.image)) change.window = null;
  if (has('dataset')) Object.assign(change, {image: -1, filter: ''});
  Object.assign(view, change);
  const before = view.image;
  const newOrder = ['dataset', 'metric', 'of', 'minus', 'order', 'filter'].some(has);
  if (newOrder || ['mode', 'shown', 'plot', 'across'].some(has)) renderControls();
  if (newOrder) renderList();
  markList();
  if (newOrder || has('plot') || has('across')) renderPlot();
  else markPlot();
  if (has('full')) scaleErrors();
  if (view.image !== before || ['dataset', 'image', 'mode', 'shown', 'left', 'right'].some(has)) renderPanes();
  saveView();
}

function wireControls() {
  const chosen = {'data-choice': 'dataset', metric: 'metric', of: 'of', minus: 'minus', across: 'across', left: 'left', right: 'right'};
  for (const [id, key] of Object.entries(chosen)) $(id).addEventListener('change', event => set({[key]: Number(event.target.value)}));
  $('order').addEventListener('change', event => set({order: event.target.value, image: -1}));
  $('filter').addEventListener('input', event => set({filter: event.target.value}));
  $('full').addEventListener('input', event => set({full: Number(event.target.value)}));
  for (const button of document.querySelectorAll('[data-plot]')) button.addEventListener('click', () => set({plot: button.dataset.plot}));
  for (const button of document.querySelectorAll('[data-mode]')) button.addEventListener('click', () => set({mode: button.dataset.mode}));
  for (const button of document.querySelectorAll('[data-jump]')) button.addEventListener('click', () => set({image: landmarks().get(button.dataset.jump), filter: ''}));
  $('previous').addEventListener('click', () => step(-1));
  $('next').addEventListener('click', () => step(1));
  $('skip').addEventListener('click', event => {  // the address is the view's
    event.preventDefault();
    $('explore').focus();
  });
  onKeys(document, {ArrowLeft: () => step(-1), ArrowRight: () => step(1)}, 'input, select, textarea, [role=slider], .scroll');
  followAddress(start);
  let waiting = 0;
  window.addEventListener('resize', () => {
    cancelAnimationFrame(waiting);
    waiting = requestAnimationFrame(() => { layout(); renderPlot(); });
  });
}
