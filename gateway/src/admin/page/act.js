// What can be turned here: always after a question, and with the token where the gateway wants one. The token is kept in this page's memory, and nowhere else.

import { h, patch } from "./dom.js";
import { refusal } from "./feed.js";

// One to look with, one to change with: a token that may not change anything is no reason to stop looking.
export class Secrets {
  constructor() {
    this.fields = { look: "X-Probe-Token", change: "X-Probe-Token" };
    this.forget();
  }

  forget() {
    this.look = "";
    this.change = "";
    this.wanted = false;
  }

  // The field of a token, for people.
  field(changes) {
    const { look, change } = this.fields;
    return changes || look.toLowerCase() === change.toLowerCase() ? change : `${look} or ${change}`;
  }

  known() {
    return Boolean(this.look || this.change);
  }

  headers(changes) {
    const token = changes ? this.change || this.look : this.look || this.change;
    if (!token) return {};
    // Nobody has to say of which set a token is that was asked for to look: either will do, each in its own field.
    return changes && this.change ? { [this.fields.change]: token } : { [this.fields.look]: token, [this.fields.change]: token };
  }
}

const dialog = document.getElementById("ask");
const said = document.getElementById("said");

// For those who do not see the page, and those who do.
export function say(text) {
  said.textContent = text;
  clearTimeout(say.timer);
  say.timer = setTimeout(() => (said.textContent = ""), 8000);
}

// Asks before something is done. `what`: title, text, verb, method, path and done (what is said when it is), and whether it is grave.
export function ask(what, secrets, after) {
  if (dialog.open) return;
  const state = { busy: false, refused: "", problems: [], token: secrets.wanted, forced: false };
  const opener = document.activeElement;
  // At once, and not when the browser comes to say that it is closed: by then, the next question may stand there.
  const close = () => {
    dialog.close();
    patch(dialog, []);
    if (opener?.isConnected) opener.focus();
  };
  const go = async (event) => {
    event.preventDefault();
    if (state.busy) return;
    const field = dialog.querySelector("input");
    if (field) secrets.change = field.value.trim();
    state.busy = true;
    draw();
    const path = state.forced ? `${what.path}?force=true` : what.path;
    try {
      const headers = { "X-Probegate-Control": "1", ...secrets.headers(true) };
      const response = await fetch(path, { method: what.method, headers });
      if (response.ok) {
        secrets.wanted = false;
        const answer = await response.json().catch(() => ({}));
        close();
        say(answer.warning ? `${what.done} But ${answer.warning}.` : what.done);
        after();
        return;
      }
      const { text, reason, problems } = await refusal(response);
      state.refused = text;
      state.problems = problems;
      state.forced = Boolean(what.force) && reason === "last_server";
      if (reason.startsWith("token_")) {
        secrets.change = "";
        secrets.wanted = state.token = true;
      }
    } catch {
      state.refused = "the gateway does not answer";
    }
    state.busy = false;
    draw();
    // Whoever presses Enter once too often changes nothing.
    dialog.querySelector(state.token ? "input" : "button")?.focus();
  };
  const draw = () => patch(dialog, [
    h("form", { onsubmit: go, autocomplete: "off" },
      h("h2", { id: "ask-title" }, what.title),
      h("p", { id: "ask-text" }, what.text),
      state.token && h("label", { key: "token" }, `Token, as sent in ${secrets.field(true)}`,
        h("input", { type: "password", name: "token", autocomplete: "off", spellcheck: "false", required: true })),
      state.refused && h("p", { key: "refused", class: "refused", role: "alert" }, `Refused: ${state.refused}.`),
      state.problems.length > 0 && h("ul", { key: "problems", class: "problems" }, state.problems.slice(0, 8).map((one, i) =>
        h("li", { key: i }, `${one.line ? `line ${one.line}: ` : ""}${one.message}${one.hint ? ` (${one.hint})` : ""}`))),
      h("div", { class: "buttons" },
        h("button", { key: "no", type: "button", onclick: close, once: { autofocus: true } }, "Cancel"),
        h("button", { key: "go", type: "submit", class: `go ${what.grave || state.forced ? "grave" : "main"}`, "aria-disabled": state.busy ? "true" : null },
          state.busy ? "Working …" : state.forced ? `${what.verb} all the same` : what.verb)),
    ),
  ]);
  dialog.oncancel = (event) => {
    event.preventDefault();
    close();
  };
  draw();
  dialog.showModal();
}
