// The list of images.

const byName = (a, b) => dataset().images[a].name.localeCompare(dataset().images[b].name, undefined, {numeric: true});

function ordered() {
  const wanted = view.filter.trim().toLowerCase();
  const pictures = dataset().images;
  const found = pictures.map((_, index) => index).filter(index => pictures[index].name.toLowerCase().includes(wanted));
  if (view.order === 'name' || !scored().length) return found.sort(byName);
  const {countable, rest} = worstFirst(found);
  return [...(view.order === 'best' ? countable.reverse() : countable), ...rest];
}

/** Images by value, then images without one, by name. */
function worstFirst(indices) {
  const pictures = dataset().images;
  const sorted = indices.sort((a, b) => compare(value(pictures[a]), value(pictures[b]), direction()) || byName(a, b));
  const counts = index => value(pictures[index]) !== null && !Number.isNaN(value(pictures[index]));
  return {countable: sorted.filter(counts), rest: sorted.filter(index => !counts(index))};
}

/** Index of the worst, the median and the best image, by word. */
function landmarks() {
  const {countable} = worstFirst(dataset().images.map((_, index) => index));
  if (countable.length < 3) return new Map();
  return new Map([['worst', countable[0]], ['median', countable[Math.floor((countable.length - 1) / 2)]], ['best', countable.at(-1)]]);
}

function renderList() {
  const order = ordered();
  if (!order.includes(view.image) && !(view.image >= 0 && view.filter)) view.image = order[0] ?? -1;
  const withValue = scored().length > 0;
  const words = new Map([...landmarks()].map(([word, index]) => [index, word]));
  $('list').replaceChildren(...order.map(index => {
    const picture = dataset().images[index];
    return el('li', null, el('button', {type: 'button', 'data-image': index, onclick: () => set({image: index})},
      picture.thumb ? el('img', {src: picture.thumb, alt: '', loading: 'lazy', decoding: 'async', width: 72, height: 48}) : el('span', {class: 'blank'}),
      el('span', null, el('b', null, picture.name), withValue ? el('small', null, `${metricName(view.metric)} ${valueText(value(picture))}`) : null,
        words.has(index) ? el('small', {class: 'word'}, words.get(index)) : null)));
  }));
  if (!order.length) $('list').append(el('li', null, el('p', {class: 'soft'}, view.filter ? 'No image matches the filter.' : 'No images.')));
}

function markList() {
  for (const button of $('list').querySelectorAll('button')) {
    const chosen = Number(button.dataset.image) === view.image;
    if (chosen) button.setAttribute('aria-current', 'true');
    else button.removeAttribute('aria-current');
    if (!chosen) continue;
    const {offsetTop, offsetHeight} = button.parentElement;
    const top = offsetTop - $('list').offsetTop;
    if (top < $('list').scrollTop) $('list').scrollTop = top;
    else if (top + offsetHeight > $('list').scrollTop + $('list').clientHeight) $('list').scrollTop = top + offsetHeight - $('list').clientHeight;
  }
  const order = ordered();
  const place = order.indexOf(view.image);
  $('name').textContent = image()?.name ?? '';
  $('position').textContent = image() ? `${place < 0 ? 'not in the list' : `${place + 1} of ${order.length}`}` : '';
  const marks = landmarks();
  for (const button of document.querySelectorAll('[data-jump]')) {
    button.disabled = !marks.size;
    button.setAttribute('aria-pressed', marks.get(button.dataset.jump) === view.image);
  }
  $('previous').disabled = place <= 0 && order.length < 2;
  $('next').disabled = $('previous').disabled;
}

function step(by) {
  const order = ordered();
  if (!order.length) return;
  const place = order.indexOf(view.image);
  set({image: order[place < 0 ? 0 : (place + by + order.length) % order.length]});
  $('spoken').textContent = `${image().name}, ${$('position').textContent}`;
}
