// The plot: scores by image, or one source against another.

const PLOT = {height: 230, left: 58, right: 14, top: 12, bottom: 34};
let dots = [];

function ticks(low, high, most) {
  const rough = (high - low) / most || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const size = [1, 2, 5, 10].map(factor => factor * power).find(candidate => candidate >= rough);
  const found = [];
  for (let at = Math.ceil(low / size); at * size <= high + size * 1e-9; at++) found.push(Number((at * size).toPrecision(12)));
  return {found, digits: Math.max(0, -Math.floor(Math.log10(size) + 1e-9))};
}

/** A linear axis around the finite values, with a margin. */
function axis(values, from, to) {
  const finite = values.filter(Number.isFinite);
  let [low, high] = [Math.min(...finite), Math.max(...finite)];
  if (!finite.length) [low, high] = [0, 1];
  const room = (high - low) * 0.06 || Math.abs(high) * 0.05 || 1;
  [low, high] = [low - room, high + room];
  return {low, high, at: value => from + (value - low) / (high - low) * (to - from)};
}

function renderPlot() {
  if ($('scores').hidden) return;
  const drawing = $('plot').querySelector('svg');
  const width = Math.max(280, $('plot').clientWidth - 16);
  drawing.setAttribute('viewBox', `0 0 ${width} ${PLOT.height}`);
  drawing.setAttribute('height', PLOT.height);
  dots = [];
  const draw = view.plot === 'scatter' ? scatter : view.minus < 0 ? curves : stems;
  drawing.replaceChildren(...draw(width), svg('g', {id: 'aimed'}));
  const lost = dots.filter(dot => !Number.isFinite(dot.x) || !Number.isFinite(dot.y));
  dots = dots.filter(dot => !lost.includes(dot));
  $('plot-note').textContent = lost.length ? `${lost.length} without a finite score ${lost.length === 1 ? 'is' : 'are'} not drawn` : '';
  markPlot();
}

function frame(width, vertical, title) {
  const {found, digits} = ticks(vertical.low, vertical.high, 6);
  return [
    ...found.map(tick => svg('g', null,
      svg('line', {class: 'grid', x1: PLOT.left, x2: width - PLOT.right, y1: vertical.at(tick), y2: vertical.at(tick)}),
      svg('text', {x: PLOT.left - 8, y: vertical.at(tick) + 4, 'text-anchor': 'end'}, text(tick, digits)))),
    svg('text', {transform: `translate(12 ${(PLOT.top + PLOT.height - PLOT.bottom) / 2}) rotate(-90)`, 'text-anchor': 'middle'}, title),
  ];
}

const below = (width, words) => svg('text', {x: (PLOT.left + width - PLOT.right) / 2, y: PLOT.height - 8, 'text-anchor': 'middle'}, words);
const columnAt = (place, count, width) => PLOT.left + (place + 0.5) * (width - PLOT.left - PLOT.right) / count;
const orderName = () => ({worst: 'worst first', best: 'best first', name: 'by name'})[view.order];

/** Circle, square, triangle or diamond by source, so that sources differ in more than color; another when colors repeat. */
function dot(x, y, source, size = 3.4) {
  const shapes = [
    `M${x - size} ${y}a${size} ${size} 0 1 0 ${2 * size} 0a${size} ${size} 0 1 0 ${-2 * size} 0`,
    `M${x - size} ${y - size}h${2 * size}v${2 * size}h${-2 * size}z`,
    `M${x} ${y - size * 1.3}l${size * 1.25} ${size * 2.2}h${-size * 2.5}z`,
    `M${x} ${y - size * 1.4}l${size * 1.4} ${size * 1.4}l${-size * 1.4} ${size * 1.4}l${-size * 1.4} ${-size * 1.4}z`,
  ];
  return svg('path', {class: 'dot', d: shapes[(source + Math.ceil(source / 8)) % 4], style: `--c: var(${color(source)})`});
}

function curves(width) {
  const order = ordered();
  const pictures = dataset().images;
  const shown = scored().filter(source => !hiddenCurves.has(source));
  const vertical = axis(shown.flatMap(source => order.map(index => score(pictures[index], source) ?? NaN)), PLOT.height - PLOT.bottom, PLOT.top);
  const marks = shown.map(source => {
    const points = order.map((index, place) => ({index, source, x: columnAt(place, order.length, width), y: vertical.at(score(pictures[index], source) ?? NaN)}));
    dots.push(...points);
    const drawn = points.filter(point => Number.isFinite(point.y));
    const path = drawn.map((point, at) => `${at ? 'L' : 'M'}${point.x} ${point.y}`).join('');
    return svg('g', {'data-series': source}, svg('path', {class: 'series', d: path, style: `--c: var(${color(source)})`}), drawn.map(point => dot(point.x, point.y, source)));
  });
  const words = view.order === 'name' ? 'images by name' : `images by ${valueName()}, ${orderName()}`;
  return [...frame(width, vertical, `${metricName(view.metric)} ${arrow(view.metric)}`), ...marks, below(width, words)];
}

function stems(width) {
  const order = ordered();
  const values = order.map(index => value(dataset().images[index]) ?? NaN);
  const vertical = axis([0, ...values], PLOT.height - PLOT.bottom, PLOT.top);
  const points = order.map((index, place) => ({index, source: view.of, x: columnAt(place, order.length, width), y: vertical.at(values[place])}));
  dots.push(...points);
  return [
    ...frame(width, vertical, `\u0394 ${metricName(view.metric)} ${arrow(view.metric)}`),
    svg('line', {x1: PLOT.left, x2: width - PLOT.right, y1: vertical.at(0), y2: vertical.at(0), stroke: 'var(--soft)'}),
    ...points.filter(point => Number.isFinite(point.y)).flatMap(point => [
      svg('line', {class: 'series', x1: point.x, x2: point.x, y1: vertical.at(0), y2: point.y, style: `--c: var(${color(view.of)})`}),
      dot(point.x, point.y, view.of),
    ]),
    below(width, `images by ${valueName()}, ${orderName()}`),
  ];
}

function scatter(width) {
  const points = ordered().map(index => ({
    index, source: view.of, a: score(dataset().images[index], view.across) ?? NaN, b: score(dataset().images[index], view.of) ?? NaN,
  }));
  const horizontal = axis(points.map(point => point.a), PLOT.left, width - PLOT.right);
  const vertical = axis(points.map(point => point.b), PLOT.height - PLOT.bottom, PLOT.top);
  for (const point of points) Object.assign(point, {x: horizontal.at(point.a), y: vertical.at(point.b)});
  dots.push(...points);
  const [low, high] = [Math.max(horizontal.low, vertical.low), Math.min(horizontal.high, vertical.high)];
  const {found, digits} = ticks(horizontal.low, horizontal.high, Math.max(2, width / 130));
  const name = metricName(view.metric);
  return [
    ...frame(width, vertical, `${name} ${arrow(view.metric)}`),
    ...found.map(tick => svg('text', {x: horizontal.at(tick), y: PLOT.height - PLOT.bottom + 14, 'text-anchor': 'middle'}, text(tick, digits))),
    ...(low < high ? [svg('line', {x1: horizontal.at(low), y1: vertical.at(low), x2: horizontal.at(high), y2: vertical.at(high), stroke: 'var(--soft)', 'stroke-dasharray': '5 4'})] : []),
    ...points.filter(point => Number.isFinite(point.x) && Number.isFinite(point.y)).map(point => dot(point.x, point.y, view.of)),
    svg('text', {x: (PLOT.left + width - PLOT.right) / 2, y: PLOT.height - 4, 'text-anchor': 'middle'},
      `across: ${sources[view.across].label}; up: ${sources[view.of].label}; dashed: equal`),
  ];
}

function markPlot(aimed = null) {
  const group = $('aimed');
  if (!group) return;
  const line = (x, kind) => svg('line', {class: kind, x1: x, x2: x, y1: PLOT.top, y2: PLOT.height - PLOT.bottom});
  const chosen = dots.filter(point => point.index === view.image);
  group.replaceChildren(
    ...(chosen.length && view.plot === 'sorted' ? [line(chosen[0].x, 'now')] : []),
    ...(aimed && view.plot === 'sorted' ? [line(aimed.x, 'aim')] : []),
    ...chosen.map(point => fill(dot(point.x, point.y, point.source, 5), {class: 'dot chosen'}, [])),
    ...(aimed ? dots.filter(point => point.index === aimed.index).map(point => dot(point.x, point.y, point.source, 5)) : []),
  );
}

function nearestDot(event) {
  const box = $('plot').querySelector('svg').getBoundingClientRect();
  const scale = $('plot').querySelector('svg').viewBox.baseVal.width / box.width;
  const [x, y] = [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
  const distance = point => (view.plot === 'sorted' ? Math.abs(point.x - x) * 1e4 + Math.abs(point.y - y) : Math.hypot(point.x - x, point.y - y));
  return dots.reduce((best, point) => (!best || distance(point) < distance(best) ? point : best), null);
}

function aim(event) {
  const found = nearestDot(event);
  $('tip').hidden = !found;
  if (!found) return;
  const picture = dataset().images[found.index];
  const lines = view.plot === 'sorted' && view.minus >= 0
    ? [`${valueName()}: ${valueText(value(picture))}`]
    : [...new Set(view.plot === 'scatter' ? [view.across, view.of] : scored().filter(source => !hiddenCurves.has(source)))].map(source => `${sources[source].label}: ${scoreText(score(picture, source))}`);
  $('tip').replaceChildren(el('b', null, picture.name), ...lines.map(line => el('div', null, line)));
  const box = $('plot').getBoundingClientRect();
  const x = event.clientX - box.left;
  const left = x + 16 + $('tip').offsetWidth < box.width ? x + 16 : Math.max(4, x - 16 - $('tip').offsetWidth);
  $('tip').style.transform = `translate(${left}px, ${Math.max(4, Math.min(event.clientY - box.top - 20, box.height - $('tip').offsetHeight - 4))}px)`;
  markPlot(found);
}

function wirePlot() {
  const drawing = $('plot').querySelector('svg');
  drawing.addEventListener('pointermove', aim);
  drawing.addEventListener('pointerleave', () => { $('tip').hidden = true; markPlot(); });
  drawing.addEventListener('click', event => {
    const found = nearestDot(event);
    if (!found) return;
    set({image: found.index});
    $('toolbar').scrollIntoView({block: 'start'});
  });
}
