// Makes what is on the page be what a description says, and touches nothing else: focus, what is unfolded and where somebody has scrolled to stay.
//
// Invariant: text becomes text nodes and attributes, and nothing is ever read as HTML.

const SVG = "http://www.w3.org/2000/svg";
const DRAWN = new Set(["svg", "path", "rect", "line", "title", "g"]);

// A description of an element. `props`: attributes; functions are listeners (`onclick`); `key` tells it from its siblings; `once` are properties that are
// set when it is made, and left to people afterwards.
export function h(tag, props, ...children) {
  return { tag, props: props ?? {}, children: children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false) };
}

export function patch(parent, wanted) {
  const before = new Map();
  for (const node of parent.childNodes) before.set(node.pgKey, node);
  let unnamed = 0;
  const nodes = wanted.map((item) => {
    const isText = typeof item !== "object";
    const key = isText ? `#${unnamed++}` : `${item.tag} ${item.props.key ?? unnamed++}`;
    const node = before.get(key) ?? (isText ? document.createTextNode("") : make(item));
    before.delete(key);
    node.pgKey = key;
    if (!isText) dress(node, item.props);
    else if (node.nodeValue !== String(item)) node.nodeValue = String(item);
    return node;
  });
  // What goes, goes first: a node that is moved loses the focus, and so nothing is moved that does not have to be.
  const stay = new Set(nodes);
  for (const node of [...parent.childNodes]) if (!stay.has(node)) node.remove();
  let place = parent.firstChild;
  for (const node of nodes) {
    if (node === place) place = place.nextSibling;
    else parent.insertBefore(node, place);
  }
  nodes.forEach((node, i) => typeof wanted[i] === "object" && patch(node, wanted[i].children));
}

function make({ tag, props }) {
  const node = DRAWN.has(tag) ? document.createElementNS(SVG, tag) : document.createElement(tag);
  Object.assign(node, props.once);
  return node;
}

function dress(node, props) {
  for (const [name, value] of Object.entries(props)) {
    if (name === "key" || name === "once") continue;
    if (name.startsWith("on")) node[name] = value;
    else if (value === null || value === undefined || value === false) node.removeAttribute(name);
    else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value === true ? "" : value);
  }
  for (const name of node.pgNames ?? []) if (!(name in props)) node.removeAttribute(name);
  node.pgNames = Object.keys(props).filter((name) => name !== "key" && name !== "once" && !name.startsWith("on"));
}
