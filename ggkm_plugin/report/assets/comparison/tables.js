// Header and tables.

function renderHeader() {
  document.title = data.name;
  $('title').textContent = data.name;
  const images = data.datasets.reduce((sum, {images}) => sum + images.length, 0);
  const counts = [[data.models.length, 'model'], [data.datasets.length, 'data set'], [images, 'image']];
  $('facts').append(
    ...(data.protocol ? [el('span', {class: 'badge'}, `protocol: ${plainText(data.protocol)}`)] : []),
    el('span', {class: 'soft'}, counts.filter(([count]) => count).map(([count, what]) => plural(count, what)).join(', ')),
  );
  $('words').hidden = !data.protocol_words;
  $('words').textContent = plainText(data.protocol_words).replace(`protocol ${data.protocol}: `, '');
  $('files').hidden = !data.files.length;
  $('files').append('All numbers: ', ...data.files.flatMap((file, index) => [index ? ', ' : '', el('a', {href: file}, file)]));
  $('failures').hidden = !data.failures.length;
  $('failures').querySelector('summary').textContent = `${plural(data.failures.length, 'failure')}; the rest is shown`;
  $('failures').querySelector('ul').append(...data.failures.map(failure => el('li', null, failure)));
  const facts = data.machine.map(fact);
  $('machine').hidden = !facts.length;
  $('machine').querySelector('summary').textContent = `${data.metrics.length ? 'Measured on' : 'Made with'} ${facts.slice(0, 4).map(([key, words]) => `${key}: ${words}`).join(', ')}`;
  $('machine').querySelector('dl').append(...facts.flatMap(([key, words]) => [el('dt', null, key), el('dd', null, words)]));
}

const plural = (count, what) => `${count} ${what}${count === 1 ? '' : 's'}`;

function fact([key, value]) {
  const bytes = key.endsWith('_bytes') ? number(value) : null;
  return bytes === null ? [key.replace(/_/g, ' '), plainText(value)] : [key.slice(0, -6).replace(/_/g, ' '), `${text(bytes / 2 ** 30, 1)} GiB`];
}

const COSTS = [
  ['parameters', 'Params (M)', 'Parameters, millions', 1e-6, 2],
  ['macs_true', 'MACs (G)', 'Multiply-accumulates, every one counted', 1e-9, 1],
  ['macs_paper', 'MACs, paper (G)', 'Multiply-accumulates as the papers count them', 1e-9, 1],
  ['seconds', 'Time (ms)', 'Time for one image', 1e3, 0],
  ['memory_bytes', 'Memory (MiB)', 'Peak memory', 1 / 2 ** 20, 0],
];

// Columns sort rows by `value` and show `cell`.
const nameColumn = {label: 'Model', title: 'Name', value: row => row.label, start: 1};

function costColumns() {
  const at = data.measured_at ? ` at ${plainText(data.measured_at)}` : '';
  const unseen = data.memory_source ? `: ${plainText(data.memory_source)}` : '';
  return COSTS.filter(([key]) => data.models.some(model => number(model[key]) !== null)).map(([key, label, title, factor, digits]) => {
    const value = row => (row.costs && number(row.costs[key]) !== null ? number(row.costs[key]) * factor : null);
    return {label, title: `${title}${at}${key === 'memory_bytes' ? unseen : ''}`, start: 1, value, cell: row => text(value(row), digits)};
  });
}

function scoreColumns(set) {
  const given = (row, metric) => number(row.scores[metric]) !== null;
  const published = publishedOf(set);
  return data.metrics.flatMap((metric, index) => {
    if (!set.means.some(means => number(means[index]) !== null) && !published.some(row => given(row, index))) return [];
    const score = {
      label: `${metricName(index)} ${arrow(index)}`, title: `${metricName(index)}, ${metric.better} is better`, start: -direction(index),
      value: row => row.means?.[index] ?? null, cell: row => scoreCell(row, index),
    };
    const loss = {
      label: 'loss', title: `How much worse ${metricName(index)} is than on the images without added noise`, start: 1,
      value: row => row.drops?.[index] ?? null, cell: row => text(row.drops?.[index] ?? null, row.digits?.[index] ?? metric.digits),
    };
    return set.noise_std ? [score, loss] : [score];
  });
}

function renderTables() {
  const scored = data.datasets.filter(({means}) => data.metrics.length && means.flat().some(mean => number(mean) !== null));
  const bare = data.datasets.filter(set => !set.has_gt && set.images.length && !scored.includes(set));
  const costs = costColumns();
  const clean = scored.filter(set => !set.noise_std);
  const tables = scored.map(set => meansTable(set, [nameColumn, ...scoreColumns(set), ...(set.noise_std ? [] : costs)]));
  if (!clean.length && costs.length) tables.push(table('Models', '', modelRows(), [nameColumn, ...costs], []));
  $('results').hidden = !tables.length;
  $('legend').textContent = legend(scored);
  $('tables').append(...tables, ...(tables.length ? bare.map(set => el('p', {class: 'soft'}, `${set.name}: ${plural(set.images.length, 'image')} without ground truth, so pictures only.`)) : []));
  renderWeights();
}

function legend(sets) {
  const compared = sets.length && data.models.filter(model => model.status !== 'failed').length > 1;
  const scenes = sets.some(set => set.scenes && set.scenes < set.images.length);
  return [
    compared ? 'Of the models compared here, the best is bold and the second underlined.' : '',
    sets.some(({differences}) => differences.flat().some(Boolean))
      ? `Small below: mean paired difference${data.difference_to ? ` from ${plainText(data.difference_to)}` : ''} with its 95\u2009% bootstrap interval${scenes ? ', by scene' : ''}; where that excludes zero, better is green and worse red.` : '',
    sets.some(set => set.noise_std) ? 'Loss: against the images without added noise, positive for worse.' : '',
    ...Object.entries(data.drop_from).map(([name, other]) => `That of ${name} counts from ${other}.`),
    'Click on a heading to sort.',
  ].join(' ');
}

const modelRows = () => data.models.map(model => ({label: model.name, model, costs: model, failed: model.status === 'failed'}));

function meansTable(set, columns) {
  const rows = sources.flatMap((source, index) => {
    if (source.kind !== 'input' && source.kind !== 'model') return [];
    const means = set.means[index].map(number);
    const model = statuses.get(source.key);
    if (source.kind === 'input' && means.every(mean => mean === null)) return [];
    return [{label: source.label, model, costs: model, means, differences: set.differences[index], drops: set.drops[index].map(number), failed: failed(index)}];
  });
  const ranks = data.metrics.map((_, metric) => ranking(rows, metric));
  for (const row of rows) row.ranks = ranks;
  const scenes = set.scenes && set.scenes < set.images.length ? ` of ${plural(set.scenes, 'scene')}` : '';
  return table(set.name, `${plural(set.images.length, 'image')}${scenes}`, rows, columns, publishedOf(set));
}

/** A sortable table: rows with results, failed rows, published rows. */
function table(name, about, rows, columns, published) {
  const finished = rows.filter(row => !row.failed);
  const broken = rows.filter(row => row.failed);
  const body = el('tbody');
  const heads = columns.map((column, position) => {
    const button = el('button', {type: 'button', title: column.title, onclick: () => sort(position)}, column.label);
    return el('th', {scope: 'col'}, button);
  });

  function sort(position) {
    const {start, value} = columns[position];
    const before = heads[position].getAttribute('aria-sort');
    const step = before === null ? start : before === 'ascending' ? -1 : 1;
    heads.forEach(head => head.removeAttribute('aria-sort'));
    heads[position].setAttribute('aria-sort', step > 0 ? 'ascending' : 'descending');
    heads.forEach((head, index) => {
      head.firstChild.textContent = columns[index].label + (index === position ? (step > 0 ? ' \u25b4' : ' \u25be') : '');
    });
    finished.sort((a, b) => compare(value(a), value(b), step));
    show();
  }
  function show() {
    body.replaceChildren(...finished.map(row => modelRow(row, columns)), ...broken.map(row => failedRow(row, columns)));
  }
  show();
  const all = el('table', null,
    el('caption', {class: 'hidden-text'}, `Means on ${name}`),
    el('thead', null, el('tr', null, heads)), body, publishedRows(published, columns),
  );
  return el('div', {class: 'means'},
    el('h3', null, name, ' ', el('span', {class: 'soft'}, about)),
    el('div', {class: 'scroll', tabindex: 0, role: 'region', 'aria-label': `Means on ${name}`}, all));
}

const publishedOf = set => data.published.filter(row => row.std === set.noise_std && row.dataset.toLowerCase() === (set.benchmark ?? set.name).toLowerCase());

/** Compare numbers; NaN, then missing values come last in both directions. */
function compare(a, b, step) {
  const rank = value => (value === null ? 2 : Number.isNaN(value) ? 1 : 0);
  if (rank(a) || rank(b)) return rank(a) - rank(b);
  if (typeof a === 'string') return step * a.localeCompare(b, undefined, {numeric: true});
  return a === b ? 0 : step * (a < b ? -1 : 1);
}

/** The best and the second best mean of the models as printed, if there are at least two. */
function ranking(rows, metric) {
  const means = rows.filter(row => row.model && !row.failed).map(row => row.means[metric]).filter(mean => mean !== null && !Number.isNaN(mean));
  if (means.length < 2) return [];
  return [...new Set(means.sort((a, b) => compare(a, b, -direction(metric))).map(mean => scoreText(mean, metric)))].slice(0, 2);
}

function modelRow(row, columns) {
  const arch = row.model?.arch && row.model.arch !== row.label ? el('span', {class: 'detail'}, row.model.arch) : null;
  const settings = row.model?.settings ? el('span', {class: 'detail'}, row.model.settings) : null;
  return el('tr', {'data-model': row.label}, el('th', {scope: 'row'}, row.label, arch, settings), columns.slice(1).map(column => el('td', null, column.cell(row))));
}

function scoreCell(row, metric) {
  if (!row.ranks) return text(row.means?.[metric] ?? null, row.digits[metric]);  // published
  const shown = scoreText(row.means[metric], metric);
  const place = row.model && !row.failed ? row.ranks[metric].indexOf(shown) : -1;
  return [
    el('span', {class: ['best', 'second'][place]}, shown, place < 0 ? null : el('span', {class: 'hidden-text'}, [' (best)', ' (second)'][place])),
    difference(row.differences[metric], metric),
  ];
}

function difference(found, metric) {
  if (!found || number(found.mean) === null) return null;
  const {digits} = data.metrics[metric];
  const [mean, low, high] = [found.mean, found.low, found.high].map(number);
  const sure = low > 0 || high < 0 ? (mean * direction(metric) > 0 ? ' up' : ' down') : '';
  return el('span', {class: `detail${sure}`}, signed(mean, digits), ' ', el('span', {class: 'interval'}, `[${signed(low, digits)}, ${signed(high, digits)}]`));
}

function failedRow(row, columns) {
  const message = `Failed: ${row.model.error || 'no message'}`;
  const partial = row.means?.some(mean => mean !== null);
  if (!partial) {
    return el('tr', {'data-model': row.label}, el('th', {scope: 'row'}, row.label), el('td', {class: 'message', colspan: columns.length - 1}, message));
  }
  const cells = columns.slice(1).map(column => el('td', null, column.cell(row)));
  return el('tr', {'data-model': row.label}, el('th', {scope: 'row'}, row.label, el('span', {class: 'detail down'}, message)), cells);
}

/** One body per source. For noisy images only losses are published. */
function publishedRows(published, columns) {
  const decimals = value => (String(value ?? '').split('.')[1] ?? '').length;
  return [...new Set(published.map(row => row.source))].map(source => {
    const rows = published.filter(row => row.source === source);
    const digits = data.metrics.map((_, metric) => Math.max(0, ...rows.map(row => decimals(row.scores[metric]))));
    const what = rows[0].std
      ? 'Published loss, from a network trained without noise to one trained with it; protocol unknown'
      : 'Published, protocol unknown: not comparable digit by digit';
    const title = el('tr', null, el('th', {class: 'divider', colspan: columns.length, scope: 'rowgroup'}, el('b', null, what), source ? ` \u2013 ${source}` : ''));
    return el('tbody', {class: 'published'}, title, rows.map(row => {
      const scores = row.scores.map(number);
      const shown = {digits, costs: row, [row.std ? 'drops' : 'means']: scores};
      return el('tr', null, el('th', {scope: 'row'}, row.method, row.remark ? [' ', el('span', {class: 'remark'}, row.remark)] : null),
        columns.slice(1).map(column => el('td', null, column.value(shown) === null ? '' : column.cell(shown))));
    }));
  });
}

function renderWeights() {
  const rows = data.models.filter(model => model.arch || model.weights);
  $('weights').hidden = !rows.length;
  $('weights').querySelector('table').append(
    el('thead', null, el('tr', null, ['Model', 'Architecture', 'Weights', 'SHA-256'].map(head => el('th', {scope: 'col'}, head)))),
    el('tbody', null, rows.map(model => el('tr', null, el('th', {scope: 'row'}, model.name),
      el('td', null, plainText(model.arch)), el('td', {class: 'path'}, plainText(model.weights)),
      el('td', {class: 'hash'}, plainText(model.sha256))))));
}
