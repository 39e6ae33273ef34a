// The catalogue, and how numbers and times are written in its language.

let texts = {};
let language = "en";

/** Fetches the texts, and puts those that stand in the page's HTML into their places. */
export async function loadTexts() {
  texts = await (await fetch("texts.json")).json();
  language = texts.language;
  document.documentElement.lang = language;
  for (const element of document.querySelectorAll("[data-text]")) element.textContent = text(element.dataset.text);
}

export const has = (key) => key in texts;

/** Returns a text with its {blanks} filled in. */
export function text(key, blanks = {}) {
  return (texts[key] ?? key).replace(/\{(\w+)\}/g, (all, name) => blanks[name] ?? all);
}

/** Returns `key.one`, `key.other` or what else the language has, for a count. */
export function counted(key, count) {
  const form = new Intl.PluralRules(language).select(count);
  return text(has(`${key}.${form}`) ? `${key}.${form}` : `${key}.other`, { count: number(count) });
}

export const number = (value, digits = 0) =>
  new Intl.NumberFormat(language, { maximumFractionDigits: digits, minimumFractionDigits: digits }).format(value);

/** Bytes as gatewayctl writes them. */
export function size(bytes) {
  if (bytes < 1024) return `${number(bytes)} B`;
  return bytes < 1024 * 1024 ? `${number(bytes / 1024, 1)} KiB` : `${number(bytes / 1024 / 1024, 1)} MiB`;
}

/** A time span: 9 s, 0:59, 1:02:03. */
export function span(seconds) {
  const whole = Math.round(seconds);
  if (whole < 10) return `${whole} s`;
  const two = (value) => String(value).padStart(2, "0");
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  return hours ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
}

const UNITS = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];

/** How long ago something was, in words. */
export function ago(iso) {
  const seconds = (Date.parse(iso) - Date.now()) / 1000;
  const [unit, length] = UNITS.find(([, size]) => Math.abs(seconds) >= size) ?? UNITS.at(-1);
  return new Intl.RelativeTimeFormat(language, { numeric: "auto" }).format(Math.trunc(seconds / length), unit);
}

export const moment = (iso) =>
  new Date(iso).toLocaleString(language, { dateStyle: "medium", timeStyle: "medium" });
