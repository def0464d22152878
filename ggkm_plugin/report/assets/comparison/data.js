// Data, and the view, which the page's address stores.

const sources = data.sources;
const truth = sources.length - 1;
const statuses = new Map(data.models.map(model => [model.name, model]));
const failed = source => sources[source].kind === 'model' && statuses.get(sources[source].key).status === 'failed';
const wide = window.matchMedia('(min-width: 821px)');
const MOST_CURVES = 5;  // at the start

const number = value => (value === null || value === undefined ? null : value === 'inf' ? Infinity : value === '-inf' ? -Infinity : Number(value));

const defaults = startingView();
const view = {...defaults};
const hiddenCurves = new Set(sources.map((_, source) => source).slice(1 + MOST_CURVES));  // more are hard to tell apart; a click shows them

function startingView() {
  const models = sources.flatMap((source, index) => (source.kind === 'model' && !failed(index) ? [index] : []));
  const extras = sources.flatMap((source, index) => (source.kind === 'extra' ? [index] : []));
  return {
    dataset: 0, image: -1, metric: 0, of: models[0] ?? 0, minus: -1, order: 'worst', plot: 'sorted', across: 0, filter: '',
    mode: data.metrics.length ? 'pictures' : 'slider', shown: [0, ...models.slice(0, 3), ...extras.slice(0, 1), ...extras.slice(1).slice(-1), truth], left: 0, right: models[0] ?? truth,
    split: 50, full: startingScale(), window: null,  // window: null fits, else {x, y, zoom}: the center (0 to 1), CSS pixels per pixel
  };
}

/** Percent: three times the root mean squared error of the first data set's input, so that few errors are clipped. */
function startingScale() {
  const psnr = data.metrics.findIndex(({name}) => name === 'psnr');
  const mean = number(data.datasets[0]?.means[0]?.[psnr] ?? null);
  return Number.isFinite(mean) ? Math.min(50, Math.max(2, Math.round(300 * 10 ** (-mean / 20)))) : 10;
}

const dataset = () => data.datasets[view.dataset];
const image = () => dataset()?.images[view.image];
const score = (picture, source, metric = view.metric) => number(picture.scores[source]?.[metric]);
const direction = (metric = view.metric) => (data.metrics[metric]?.better === 'lower' ? -1 : 1);

/** The score that sorts the list: that of one source, or the difference of two. */
function value(picture) {
  const first = score(picture, view.of);
  const second = view.minus < 0 ? 0 : score(picture, view.minus);
  return first === null || second === null ? null : first - second;
}

// ---- text ----

const metricName = metric => data.metrics[metric].label;
const arrow = metric => (direction(metric) > 0 ? '\u2191' : '\u2193');
const scoreText = (value, metric = view.metric) => text(value, data.metrics[metric].digits);
const signed = (value, digits) => (value > 0 ? '+' : '') + text(value, digits);
const valueText = value => (view.minus < 0 ? scoreText(value) : signed(value, data.metrics[view.metric].digits));
const valueName = () => `${metricName(view.metric)} ${sources[view.of].label}${view.minus < 0 ? '' : ` \u2212 ${sources[view.minus].label}`}`;
const plainText = value => (value !== null && typeof value === 'object' ? JSON.stringify(value) : String(value ?? '\u2013'));
