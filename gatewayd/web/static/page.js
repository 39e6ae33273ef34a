// The page: keeps what is known, puts each device into its group, and sends what is pressed.

import { fillCard, groupPlace, makeCard, makeProblem, stateText } from "./cards.js";
import { openDetails } from "./details.js";
import { confirmed, refusal, signedIn } from "./dialogs.js";
import { arrange, find, make, say, show } from "./dom.js";
import { follow } from "./live.js";
import { command, getSession, signOut } from "./server.js";
import { counted, loadTexts, text } from "./texts.js";

const GROUPS = ["needs", "waits", "moving", "fine"];
// What cannot be taken back, or stops somebody else's work, is asked for first.
const ASKED = new Set(["approve", "cancel", "retry_reverted"]);
// Fewer are seen at a glance.
const SEARCH_FROM = 12;

const devices = new Map();
const cards = new Map();
let gateway = null;
let away = null;
let isUp = false;
let session = { user: null, sign_in: false, may_look: true };
let line = null;

await loadTexts();
find("sign-in").onclick = askWho;
find("sign-out").onclick = async () => { await signOut().catch(tell); location.reload(); };
find("search").oninput = drawGroups;
await learnSession();
draw();
line = follow(take, setLine);
setInterval(() => devices.forEach((device, name) => fillCard(cards.get(name), device, maySteer())), 30_000);

const order = (one, other) => one.localeCompare(other, undefined, { numeric: true });
function maySteer() { return session.user !== null && isUp && away === null; }

// -- what comes

function take(news) {
  if (news.whole) {
    const names = new Set(news.devices.map((device) => device.name));
    for (const name of devices.keys()) if (!names.has(name)) forget(name);
  }
  if ("away" in news) [gateway, away] = [news.gateway, news.away];
  news.removed.forEach(forget);
  for (const device of news.devices) {
    announce(devices.get(device.name), device);
    devices.set(device.name, device);
  }
  draw();
}

function forget(name) {
  devices.delete(name);
  cards.get(name)?.remove();
  cards.delete(name);
}

async function setLine(up) {
  if (up === isUp) return;
  isUp = up;
  draw();
  if (!up) await learnSession();
}

async function learnSession() {
  try {
    session = await getSession();
  } catch {
    return; // the process is away; the line will say when it is back
  }
  show(find("sign-in"), session.sign_in && session.user === null);
  show(find("sign-out"), session.user !== null);
  say(find("person"), session.user ?? (session.sign_in ? "" : text("only_shows")));
  if (!session.may_look) askWho(); // not waited for: the page is there behind the question
}

/** Says aloud what a listener would want to know: who began, ended, or got into trouble. */
function announce(before, now) {
  if (before === undefined || (before.state === now.state && before.group === now.group)) return;
  say(find("news"), text("news", { device: now.name, state: stateText(now), version: now.installed_version ?? "?" }));
}

// -- what is shown

function draw() {
  document.title = [gateway?.gateway, "gatewayd"].filter(Boolean).join(" · ");
  say(find("gateway"), gateway?.gateway ?? "gatewayd");
  const state = !session.may_look ? "sign_in" : !isUp ? "page_away" : away ? "away" : gateway && !gateway.broker.connected ? "no_broker" : "up";
  say(find("connection"), text(`connection.${state}`)).dataset.state = state;
  show(say(find("away"), banner()), (!isUp && gateway) || away || gateway?.paused);
  say(find("about"), gateway ? text("about", { version: gateway.version, broker: gateway.broker.address }) : "");
  document.body.classList.toggle("stale", !isUp || away !== null);
  drawEverything();
  drawGroups();
}

function banner() {
  if (!isUp) return text("banner.page_away");
  if (away) return text("banner.away", { reason: away.reason });
  return gateway?.paused ? text("banner.paused", gateway.paused) : "";
}

function drawEverything() {
  const op = gateway?.paused ? "resume" : "pause";
  const place = find("everything");
  if (!maySteer()) return place.replaceChildren();
  if (place.dataset.op === op && place.firstChild) return;
  place.dataset.op = op;
  place.replaceChildren(make("button", { type: "button", "data-op": op, onclick: () => steerEverything(op) }, text(`everything.${op}`)));
}

function drawGroups() {
  const wanted = find("search").value.trim().toLowerCase();
  const all = [...devices.values()].sort((one, other) => order(one.name, other.name));
  const shown = all.filter((device) => !wanted || `${device.name} ${device.app_id}`.toLowerCase().includes(wanted));
  for (const device of all) {
    if (!cards.has(device.name)) cards.set(device.name, makeCard(steer, (one) => openDetails(one.name)));
    const card = cards.get(device.name);
    if (card.device !== device || card.maySteer !== maySteer()) fillCard(card, device, maySteer());
  }
  const problems = (isUp && !away && gateway?.problems) || [];
  drawProblems(problems);
  const focused = document.activeElement;
  for (const group of GROUPS) {
    const members = shown.filter((device) => device.group === group);
    const count = members.length + (group === "needs" ? problems.length : 0);
    say(find(`${group}-title`), `${text(`group.${group}`)} (${count})`);
    show(find(group), count);
    arrange(groupPlace(group), members.map((device) => cards.get(device.name)));
  }
  // A card that went to another group takes the focus with it.
  if (focused !== document.activeElement && focused.isConnected) focused.focus();
  drawCounts(all, problems.length);
  show(find("search-row"), all.length >= SEARCH_FROM);
  say(find("found"), wanted ? counted("found", shown.length) : "");
  show(say(find("nothing"), text("no_devices")), gateway && !all.length);
}

function drawProblems(problems) {
  const place = find("problems");
  const key = JSON.stringify(problems);
  if (place.dataset.key === key) return;
  place.dataset.key = key;
  place.replaceChildren(...problems.map(makeProblem));
}

function drawCounts(all, problems) {
  const place = find("counts");
  const links = GROUPS.map((group, at) => {
    const count = all.filter((device) => device.group === group).length + (group === "needs" ? problems : 0);
    const link = place.children[at] ?? make("a", { class: "count", href: `#${group}-title`, "data-group": group }, make("b"), make("span"));
    say(link.firstChild, String(count));
    say(link.lastChild, counted(`count.${group}`, count));
    link.classList.toggle("none", count === 0);
    return link;
  });
  arrange(place, links);
}

// -- what is pressed

async function steer(op, device) {
  const blanks = { device: device.name, version: device.latest_version ?? "", installed: device.installed_version ?? "?" };
  if (ASKED.has(op) && !(await confirmed(text(`ask.${op}.title`, blanks), text(`ask.${op}`, blanks), text(`action.${op}`)))) return;
  await send(op, [device.name]);
}

async function steerEverything(op) {
  if (op === "pause" && !(await confirmed(text("ask.everything.title"), text("ask.everything"), text("everything.pause")))) return;
  await send(op, []);
}

async function send(op, targets) {
  try {
    const { outcomes, refused } = await command(op, targets);
    const said = [...outcomes.map((one) => one.text), ...refused.map((one) => one.error.message)];
    say(find("news"), said.length > 3 ? text("done", { count: outcomes.length }) : said.join(". "));
  } catch (error) {
    if (error.code === "sign_in") return askWho();
    tell(error);
  }
}

function tell(error) {
  const dialog = find("question");
  if (dialog.open) return;
  confirmed(text("refused.title"), refusal(error), text("refused.ok"));
}

async function askWho() {
  if (!(await signedIn())) return;
  await learnSession();
  line?.restart();
  draw();
}
