// Elements, and rendering by comparison: what is there already stays, with its focus, selection and scroll position.
// Text is only ever inserted as text.

const SVG = "http://www.w3.org/2000/svg";

/** An element. Of the attributes `on` has listeners by event, `key` tells it from its siblings when it is rendered
 * again, and `value` is a property; one that is false, null or undefined is left out. Children are nodes, text, or lists. */
export function h(tag, attributes = {}, ...children) {
  return build(document.createElement(tag), attributes, children);
}

/** The same for SVG. */
export function svg(tag, attributes = {}, ...children) {
  return build(document.createElementNS(SVG, tag), attributes, children);
}

function build(element, { on = {}, key, value, ...attributes }, children) {
  element._key = key;
  for (const [name, text] of Object.entries(attributes)) {
    if (text === true) element.setAttribute(name, "");
    else if (text !== false && text !== null && text !== undefined) element.setAttribute(name, String(text));
  }
  element.append(...nodes(children));
  if (value !== undefined) {
    element._value = value;
    element.value = value;
  }
  listen(element, on);
  return element;
}

function nodes(children) {
  return children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false && child !== "");
}

function listen(element, listeners) {
  const held = (element._on ??= {});
  for (const name of Object.keys(listeners)) {
    if (!(name in held)) element.addEventListener(name, (event) => element._on[name]?.(event));
  }
  for (const name of Object.keys(held)) held[name] = null;
  Object.assign(held, listeners);
}

/** Make the children of an element those given. */
export function render(parent, ...children) {
  const wanted = nodes(children).map((child) => (child instanceof Node ? child : document.createTextNode(String(child))));
  replaceChildren(parent, wanted);
}

function replaceChildren(live, wanted) {
  const keyed = new Map();
  for (const child of live.childNodes) if (child._key !== undefined) keyed.set(child._key, child);
  let cursor = live.firstChild;
  for (const next of wanted) {
    const match = next._key === undefined ? unkeyed(cursor, next) : keyed.get(next._key);
    if (!match || !alike(match, next)) {
      live.insertBefore(next, cursor);
      continue;
    }
    if (match === cursor) cursor = cursor.nextSibling;
    else live.insertBefore(match, cursor);
    if (match !== next) update(match, next);
  }
  while (cursor) {
    const following = cursor.nextSibling;
    cursor.remove();
    cursor = following;
  }
}

function unkeyed(cursor, next) {
  return cursor && cursor._key === undefined && alike(cursor, next) ? cursor : null;
}

function alike(live, next) {
  return live.nodeType === next.nodeType && live.nodeName === next.nodeName;
}

function update(live, next) {
  if (live.nodeType === Node.TEXT_NODE) {
    if (live.nodeValue !== next.nodeValue) live.nodeValue = next.nodeValue;
    return;
  }
  for (const { name } of [...live.attributes]) {
    // What a person has opened stays open.
    if (!next.hasAttribute(name) && !(name === "open" && live.nodeName === "DETAILS")) live.removeAttribute(name);
  }
  for (const { name, value } of next.attributes) if (live.getAttribute(name) !== value) live.setAttribute(name, value);
  replaceChildren(live, [...next.childNodes]);
  if (next._value !== undefined) {
    live._value = next._value;
    if (document.activeElement !== live && live.value !== next._value) live.value = next._value;
  }
  listen(live, next._on ?? {});
}
