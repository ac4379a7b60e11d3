// What the gateway tells, as it tells it: events while there is a place for one more listener, else a question every few seconds.

const POLL = 5000;
const SILENCE = 15000;

// `told(status)` gets each snapshot; `state(word, detail)` how it goes: live, polling, lost, or token (who looks has to show one).
export class Feed {
  constructor(secrets, told, state) {
    Object.assign(this, { secrets, told, state, run: 0 });
    // A page that nobody sees takes nobody's place.
    document.addEventListener("visibilitychange", () => (document.hidden ? this.stop() : this.start()));
  }

  start() {
    this.stop();
    if (!document.hidden) this.follow(this.run);
  }

  stop() {
    this.run += 1;
    this.abort?.abort();
  }

  async follow(run) {
    let failures = 0;
    while (run === this.run) {
      try {
        const response = await this.get("/events");
        if (response.ok && response.body) {
          await this.listen(run, response.body, () => (failures = 0));
        } else if (response.status === 403) {
          const { text, reason } = await refusal(response);
          return this.state(reason.startsWith("token_") ? "token" : "refused", text);
        } else {
          await this.poll(run, 6);
          failures = 0;
        }
      } catch (error) {
        if (run !== this.run) return;
        failures += 1;
        this.state("lost", "");
        await pause(Math.min(1000 * failures, 10000));
      }
    }
  }

  get(path) {
    this.abort = new AbortController();
    return fetch(path, { headers: this.secrets.headers(), signal: this.abort.signal, cache: "no-store" });
  }

  // Server-sent events. Not by EventSource, which sends no token.
  async listen(run, body, heard) {
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (;;) {
      const timer = setTimeout(() => this.abort.abort(), SILENCE);
      const { value, done } = await reader.read().finally(() => clearTimeout(timer));
      if (done || run !== this.run) return;
      text += value;
      const events = text.split("\n\n");
      text = events.pop();
      const data = events.filter((event) => event.startsWith("data: ")).pop();
      if (data) {
        heard();
        this.state("live", "");
        this.told(JSON.parse(data.slice(6)));
      }
    }
  }

  async poll(run, times) {
    for (let i = 0; i < times && run === this.run; i++) {
      const response = await this.get("/status");
      if (response.status === 403) return;
      if (!response.ok) throw new Error(`status ${response.status}`);
      this.state("polling", "");
      this.told(await response.json());
      await pause(POLL);
    }
  }
}

function pause(time) {
  return new Promise((resolve) => setTimeout(resolve, time));
}

// Why the gateway refused: in its own words, as a word for programs, and what is wrong in a configuration.
export async function refusal(response) {
  const said = await response.json().catch(() => ({}));
  return { text: said.detail ?? `the gateway answered with ${response.status}`, reason: said.reason ?? "", problems: said.problems ?? [] };
}
