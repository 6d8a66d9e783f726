// Making elements. Whatever a user or a model wrote goes in as text; there is no way to put in markup.

const SVG = "http://www.w3.org/2000/svg";

export const el = (name, attributes, ...children) => filled(document.createElement(name), attributes, children);
export const svg = (name, attributes, ...children) => filled(document.createElementNS(SVG, name), attributes, children);

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child != null));
  return element;
}

// Gives an element other children only where they differ, so that a selection or the focus in it survives a refresh.
export function fill(element, ...children) {
  patch(element, el("div", {}, ...children));
}

function patch(element, wanted) {
  const old = [...element.childNodes];
  const fresh = [...wanted.childNodes];
  fresh.forEach((child, index) => {
    const was = old[index];
    if (was === undefined) element.append(child);
    else if (alike(was, child)) patch(was, child);
    else if (!was.isEqualNode(child)) was.replaceWith(child);
  });
  for (const child of old.slice(fresh.length)) child.remove();
}

// The same element with other children.
const alike = (one, other) => one.nodeType === Node.ELEMENT_NODE && one.cloneNode(false).isEqualNode(other.cloneNode(false));
