// Builds elements. Text goes in as text, never as HTML: names, versions and reasons come from elsewhere.

/** Makes an element; `facts` are attributes, or listeners where the name begins with "on". */
export function make(tag, facts = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(facts)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== undefined && value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
  return element;
}

export const find = (id) => document.getElementById(id);

/** Sets text only where it differs, so that nothing is drawn, or read aloud, again. */
export function say(element, text) {
  const now = text ?? "";
  if (element.textContent !== now) element.textContent = now;
  return element;
}

/** Shows an element, or hides it. */
export function show(element, isShown) {
  if (element.hidden === Boolean(isShown)) element.hidden = !isShown;
  return element;
}

/** Makes `children` the only ones, and moves none that is in its place: what has the focus keeps it. */
export function arrange(parent, children) {
  const wanted = new Set(children);
  for (const child of [...parent.children]) if (!wanted.has(child)) child.remove();
  children.forEach((child, at) => {
    if (parent.children[at] !== child) parent.insertBefore(child, parent.children[at] ?? null);
  });
}
