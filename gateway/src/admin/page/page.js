// The page of a gateway: what it tells, put on the page as it comes.

import { Secrets, ask, say } from "./act.js";
import { h, patch } from "./dom.js";
import { Feed } from "./feed.js";
import { services } from "./services.js";
import { aggregates, bans, certificates, denials, limits } from "./tables.js";
import { ofAll } from "./trouble.js";
import { ago, number, percent, span } from "./words.js";

const POINTS = 150;

const secrets = new Secrets();
const look = { word: "", trouble: false };
const series = new Map();
let status = null;
let going = { word: "asking", detail: "" };
let paths = {};

const feed = new Feed(secrets, told, (word, detail) => {
  if (word === going.word && detail === going.detail) return;
  going = { word, detail };
  draw();
});

// What happened before somebody looked: kept by the gateway for a few minutes.
async function remember(now) {
  const names = now.services.slice(0, 40).map((one) => one.service).filter((name) => !series.has(name));
  for (const name of names) series.set(name, []);
  await Promise.all(names.map(async (name) => {
    const response = await fetch(`/services/${encodeURIComponent(name)}`, { headers: secrets.headers() }).catch(() => null);
    const { traffic } = (response?.ok && (await response.json().catch(() => null))) || {};
    const before = (traffic?.series ?? []).map((point) => ({ rate: point.requests_per_second, errors: point.errors_per_second }));
    series.set(name, [...before, ...series.get(name)].slice(-POINTS));
  }));
  if (names.length) draw();
}

function told(now) {
  status = now;
  remember(now);
  for (const service of now.services ?? []) {
    const { requests_per_second: rate = 0, errors_per_second: errors = 0 } = service.traffic?.windows?.["10s"] ?? {};
    const points = series.get(service.service) ?? [];
    points.push({ rate, errors });
    series.set(service.service, points.slice(-POINTS));
  }
  draw();
}

function act(what) {
  ask(what, secrets, () => feed.start());
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    say("Copied.");
  } catch {
    say("This browser does not let the page copy: mark the text instead.");
  }
}

const GOING = { asking: "asking …", live: "live", polling: "every 5 s", lost: "no answer", token: "locked", refused: "refused" };
const STATES = { ready: "takes traffic", draining: "going down", starting: "starting", servers_down: "takes no traffic", servers_drained: "takes no traffic" };

function header() {
  const { gateway = {}, configuration = {}, services: all = [], unserved } = status ?? {};
  const sum = (of) => [...all.map((one) => one.traffic), unserved].reduce((total, traffic) => total + (of(traffic?.windows?.["10s"] ?? {}) ?? 0), 0);
  const rate = sum((window) => window.requests_per_second);
  const errors = sum((window) => window.errors_per_second);
  const fact = (name, value) => h("div", { key: name }, h("dt", null, name), h("dd", null, value));
  const reload = configuration.last_reload_failed ? "refused" : configuration.reloads ? "taken" : "none yet";
  const canReload = status && paths["/reload"];
  const what = { title: "Reload the configuration?", text: "The file is read again, and put in force if nothing is wrong with it.", verb: "Reload", method: paths["/reload"]?.put ? "PUT" : "POST", path: "/reload", done: "The configuration is reloaded." };
  return [
    h("div", { class: "bar" },
      h("h1", null, "probegate"),
      status && going.word !== "lost" && h("span", { key: "state", class: `badge ${gateway.state === "ready" ? "good" : "bad"}` }, STATES[gateway.state] ?? gateway.state),
      h("span", { class: "room" }),
      secrets.known() && h("button", { key: "forget", type: "button", class: "small", onclick: forget }, "Forget the token"),
      canReload && h("button", { key: "reload", type: "button", class: "small", onclick: () => act(what) }, "Reload"),
      h("span", { class: `going ${going.word}` }, GOING[going.word])),
    status && h("dl", { key: "facts", class: "facts" },
      fact("Requests", `${number(rate)} /s`),
      fact("Errors", percent(rate ? errors / rate : null)),
      fact("Connections", number(gateway.connections)),
      fact("Up for", span(gateway.uptime ?? 0)),
      fact("Version", gateway.version ?? "–"),
      fact("Configuration", `no. ${configuration.generation ?? "–"}, ${ago((status.time ?? 0) - (configuration.since ?? 0))}`),
      fact("Last reload", reload),
      fact("Listens on", h("bdi", null, (configuration.listeners ?? []).join(", ") || "–"))),
  ].filter(Boolean);
}

function attention() {
  const found = ofAll(status);
  if (!found.length) return going.word !== "lost" && h("p", { key: "attention", class: "calm" }, "Everything is as it should be.");
  const most = 12;
  return h("section", { key: "attention", class: "attention", "aria-labelledby": "attention-name" },
    h("h2", { id: "attention-name" }, found[0].level === "note" ? "To know" : "Needs attention"),
    h("ul", null,
      found.slice(0, most).map((one) => h("li", { key: one.href + one.text, class: one.level },
        h("a", { href: one.href }, one.service && h("bdi", { class: "who" }, one.service), h("span", null, one.text)))),
      found.length > most && h("li", { key: "more", class: "more" }, `and ${found.length - most} more`)));
}

function locked() {
  const enter = (event) => {
    event.preventDefault();
    secrets.look = event.target.querySelector("input").value.trim();
    feed.start();
  };
  return h("section", { key: "locked", class: "locked", "aria-labelledby": "locked-name" },
    h("h2", { id: "locked-name" }, "This gateway shows itself to those who have a token"),
    h("form", { onsubmit: enter, autocomplete: "off" },
      h("label", null, `Token, as sent in ${secrets.field(false)}`, h("input", { type: "password", name: "token", autocomplete: "off", spellcheck: "false", required: true })),
      h("button", { type: "submit", class: "main" }, "Show")),
    secrets.known() && h("p", { key: "refused", class: "refused", role: "alert" }, `Refused: ${going.detail}.`));
}

function forget() {
  secrets.forget();
  say("The token is forgotten.");
  feed.start();
}

function draw() {
  document.body.classList.toggle("stale", going.word === "lost");
  patch(document.getElementById("top"), header());
  const main = document.getElementById("main");
  if (going.word === "token") return patch(main, [locked()]);
  if (going.word === "refused") return patch(main, [h("p", { key: "no", class: "refused" }, `The gateway does not show itself here: ${going.detail}.`)]);
  if (!status) return patch(main, [h("p", { key: "wait", class: "notice" }, going.word === "lost" ? "The gateway does not answer. The page asks again by itself." : "Asking the gateway …")]);
  patch(main, [
    going.word === "lost" && h("p", { key: "lost", class: "notice" }, `The gateway does not answer since ${new Date(status.time * 1000).toLocaleTimeString([], { hour12: false })}: this is what it said last.`),
    attention(),
    services(status, series, act, look, draw),
    aggregates(status),
    h("div", { key: "beside", class: "beside" }, limits(status), certificates(status)),
    bans(status, act),
    denials(status, copy),
  ].filter(Boolean));
}

// What this gateway can do, and where it wants its token.
async function learn() {
  try {
    const described = await (await fetch("/openapi.json")).json();
    paths = described.paths ?? {};
    const { read, write } = described.components.securitySchemes;
    secrets.fields = { look: read.name, change: write.name };
  } catch {
    // Without it, the page shows what it can, and asks again.
    setTimeout(() => learn().then(draw), 5000);
  }
}

draw();
learn().then(() => feed.start());
