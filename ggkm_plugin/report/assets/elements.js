// The page's data, and builders of elements. Text is inserted as text, never as HTML.

const data = JSON.parse(document.getElementById('data').textContent);

const $ = id => document.getElementById(id);

function fill(element, properties, children) {
  for (const [name, property] of Object.entries(properties ?? {})) {
    if (name.startsWith('on')) element.addEventListener(name.slice(2), property);
    else if (property !== null && property !== undefined) element.setAttribute(name, property);
  }
  element.append(...children.flat(Infinity).filter(child => child !== null && child !== undefined));
  return element;
}
const el = (tag, properties, ...children) => fill(document.createElement(tag), properties, children);
const svg = (tag, properties, ...children) => fill(document.createElementNS('http://www.w3.org/2000/svg', tag), properties, children);

function choices(select, options, chosen) {
  select.replaceChildren(...options.map(([index, label]) => el('option', {value: index}, label)));
  select.value = String(chosen);
}

/** [red, green, blue] of #rrggbb. */
const channels = hex => [1, 3, 5].map(at => parseInt(hex.slice(at, at + 2), 16));
const gradient = colors => `linear-gradient(90deg, ${colors.join(', ')})`;

function text(value, digits) {
  if (value === null) return '\u2013';
  if (Number.isNaN(value)) return 'NaN';
  if (!Number.isFinite(value)) return value < 0 ? '\u2212inf' : 'inf';
  return value.toFixed(digits).replace('-', '\u2212');
}
