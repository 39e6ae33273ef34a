// One card for each device. A card stays the same element for as long as the device is there: it is filled again,
// so that the focus, and what is being read aloud, stay where they are.

import { arrange, find, make, say, show } from "./dom.js";
import { ago, has, moment, size, span, text } from "./texts.js";

/** Makes an empty card; `onAction(op, device)` and `onDetails(device)` are called for its buttons. */
export function makeCard(onAction, onDetails) {
  const parts = {
    name: make("h3"),
    state: make("span", { class: "state" }),
    versions: make("p", { class: "versions" }),
    progress: make("progress", { max: 100 }),
    pace: make("p", { class: "pace" }),
    reason: make("p", { class: "reason" }),
    next: make("p", { class: "next" }),
    last: make("p", { class: "last" }),
    buttons: make("div", { class: "buttons" }),
  };
  const card = make("li", { class: "card" }, make("div", { class: "title" }, parts.name, parts.state), parts.versions,
    parts.progress, parts.pace, parts.reason, parts.next, parts.last, parts.buttons);
  const details = make("button", { type: "button", onclick: () => onDetails(card.device) });
  Object.assign(card, { parts, details, actions: new Map(), onAction });
  return card;
}

/** Fills a card. `maySteer`: whether its buttons are there. */
export function fillCard(card, device, maySteer) {
  const { parts } = card;
  Object.assign(card, { device, maySteer });
  card.dataset.group = device.group;
  say(parts.name, device.name);
  say(parts.state, stateText(device)).className = `state ${device.group}`;
  say(parts.versions, versionsText(device));
  fillProgress(parts, device);
  show(say(parts.reason, reasonText(device)), device.told);
  // Where a button does it, nothing has to be typed.
  const isPressed = device.paused && maySteer;
  const next = device.told && !isPressed && has(`next.${device.code}`) ? text("next", { step: text(`next.${device.code}`) }) : "";
  show(say(parts.next, next), next);
  fillLast(parts.last, device);
  fillButtons(card, maySteer);
}

export const stateText = (device) =>
  text(device.paused ? "state.paused" : `state.${device.state}`, { state: text(`state.${device.state}`) });

export const reasonText = (device) => [device.reason, device.code && `(${device.code})`].filter(Boolean).join(" ");

function versionsText(device) {
  const { installed_version: installed, latest_version: latest } = device;
  const facts = { installed: installed ?? "?", latest, app: device.app_id };
  return text(latest && latest !== installed ? "versions.update" : "versions.installed", facts);
}

function fillProgress(parts, device) {
  const isMoving = ["transferring", "staged", "activating"].includes(device.state) || (device.state === "queued" && device.progress);
  show(parts.progress, isMoving);
  show(parts.pace, isMoving);
  if (!isMoving) return;
  parts.progress.value = device.progress ?? 0;
  parts.progress.setAttribute("aria-label", text("progress.label", { device: device.name }));
  const pace = [text("progress.percent", { percent: device.progress ?? 0 })];
  if (device.bytes_per_s) pace.push(`${size(device.bytes_per_s)}/s`);
  if (device.seconds_left) pace.push(text("progress.left", { time: span(device.seconds_left) }));
  if (device.resumes) pace.push(text("progress.resumed", { count: device.resumes }));
  say(parts.pace, pace.join(" · "));
}

function fillLast(element, device) {
  const last = device.last_result;
  show(element, last && device.group === "fine");
  if (!last) return;
  const key = `last.${last.state}`;
  say(element, text(has(key) ? key : "last.other", { version: last.version, state: last.state, ago: ago(last.at) }));
  element.title = moment(last.at);
}

function fillButtons(card, maySteer) {
  const wanted = maySteer ? card.device.actions : [];
  const buttons = wanted.map((op) => {
    if (!card.actions.has(op)) {
      const isMain = ["approve", "retry", "resume"].includes(op);
      card.actions.set(op, make("button", { type: "button", class: isMain && "main", "data-op": op,
        onclick: () => card.onAction(op, card.device) }));
    }
    return labelled(card.actions.get(op), text(`action.${op}`), card.device.name);
  });
  buttons.push(labelled(card.details, text("details.open"), card.device.name));
  const { buttons: place } = card.parts;
  const focused = document.activeElement;
  const hadFocus = place.contains(focused);
  arrange(place, buttons);
  // What had the focus may be gone: then the next is not the page's beginning.
  if (hadFocus && !place.contains(document.activeElement)) (place.contains(focused) ? focused : card.details).focus();
}

function labelled(button, label, name) {
  say(button, label);
  button.setAttribute("aria-label", text("button.label", { label, device: name }));
  return button;
}

/** A card for what is wrong with the gateway as a whole. */
export function makeProblem(problem) {
  const about = {
    configuration: text("problem.configuration"), storage: text("problem.storage"), broker: text("problem.broker"),
  }[problem.about];
  const next = has(`next.${problem.code}`) ? text("next", { step: text(`next.${problem.code}`) }) : "";
  return make("li", { class: "card", "data-group": "needs" },
    make("h3", {}, about ?? text("problem.topic", { topic: problem.about })),
    make("p", { class: "reason" }, [problem.reason, `(${problem.code})`].filter(Boolean).join(" ")),
    next && make("p", { class: "next" }, next));
}

export const groupPlace = (group) => find(group).querySelector(".cards");
