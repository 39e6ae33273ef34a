// The dialog with everything about one device: what it is, what was published for it, what became of its updates.

import { reasonText, stateText } from "./cards.js";
import { find, make } from "./dom.js";
import { getDevice } from "./server.js";
import { ago, has, moment, size, span, text } from "./texts.js";

const dialog = find("details");
const body = find("details-body");

find("details-close").addEventListener("click", () => dialog.close());

/** Opens the dialog for a device. */
export async function openDetails(name) {
  find("details-title").textContent = name;
  body.replaceChildren(make("p", {}, text("details.loading")));
  dialog.showModal();
  try {
    body.replaceChildren(...describe(await getDevice(name)));
  } catch (error) {
    body.replaceChildren(make("p", { class: "error", role: "alert" }, has(`error.${error.code}`) ? text(`error.${error.code}`) : error.message));
  }
}

function describe({ device, decision, releases, jobs }) {
  return [
    facts(device),
    make("h3", {}, text("details.decision")),
    make("p", {}, `${decision.reason} (${decision.code})`),
    make("h3", {}, text("details.published")),
    releases.length ? make("ul", { class: "rows" }, ...releases.map(release)) : make("p", {}, text("details.nothing_published")),
    make("p", { class: "last" }, text("details.topics", { topics: decision.topics.join(", ") })),
    make("h3", {}, text("details.history")),
    jobs.length ? make("ul", { class: "rows" }, ...jobs.map(job)) : make("p", {}, text("details.no_history")),
  ];
}

function facts(device) {
  const link = device.link.baud ? text("fact.uart", device.link) : device.link.address;
  const rows = {
    state: stateText(device),
    reason: device.told && reasonText(device),
    installed: device.installed_version,
    app: device.app_id,
    hardware: device.hardware_id,
    device_id: device.device_id,
    link,
    health: device.link.health !== "ok" && [device.link.health, device.link.reason].filter(Boolean).join(": "),
    contact: device.last_contact_at && `${ago(device.last_contact_at)} (${moment(device.last_contact_at)})`,
  };
  const shown = Object.entries(rows).filter(([, value]) => value);
  return make("dl", {}, ...shown.flatMap(([key, value]) => [make("dt", {}, text(`fact.${key}`)), make("dd", {}, value)]));
}

function release(one) {
  const version = one.version ?? text("details.version_unknown");
  const origin = one.topic.startsWith("push:") ? text("details.pushed") : one.topic;
  return make("li", {},
    make("p", {}, make("strong", {}, version), ` ${size(one.size_bytes)}, ${origin}`),
    make("p", { class: "reason" }, `${one.reason} (${one.code})`),
    make("p", { class: "last" }, `${ago(one.received_at)} (${moment(one.received_at)})`));
}

function job(one) {
  const title = text("job.title", { id: one.id, from: one.from_version, version: one.version });
  const counts = [
    one.transfers && text("job.transfers", { count: one.transfers }),
    one.resumes && text("progress.resumed", { count: one.resumes }),
    one.duration_s && span(one.duration_s),
    one.image_bytes && size(one.image_bytes),
  ].filter(Boolean);
  return make("li", {},
    make("p", {}, make("strong", {}, title), " ", make("span", { class: `state ${tone(one.state)}` }, text(`state.${one.state}`))),
    one.reason && make("p", { class: "reason" }, `${one.reason} (${one.code})`),
    make("p", { class: "last" }, [`${ago(one.updated_at)} (${moment(one.updated_at)})`, ...counts].join(" · ")));
}

const tone = (state) => ({ succeeded: "fine", failed: "needs", offered: "waits", superseded: "quiet", cancelled: "quiet" })[state] ?? "moving";
