// A conversation with one to four models, each in its own column, over the endpoint's own API. The credential comes
// from the session, lives for ten minutes and only in memory; the conversation lives in this tab (sessionStorage).

const root = document.getElementById("chat");
const say = root ? root.dataset : {};
const byId = (name) => document.getElementById(`chat-${name}`);
const made = (name, className, text) => {
  const element = document.createElement(name);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
};

let pass = null;
async function credential() {
  if (!pass || pass.until < Date.now()) {
    const answer = await fetch("/console/chat/admission", { method: "POST" });
    if (!answer.ok || answer.redirected) { location.reload(); throw new Error("signed out"); }
    const given = await answer.json();
    pass = { credential: given.credential, until: Date.now() + (given.seconds - 30) * 1000 };
  }
  return { authorization: `Bearer ${pass.credential}` };
}

/** Events of a server-sent stream, as the values behind `data:`. */
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    rest += value;
    const lines = rest.split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (line.startsWith("data:") && line.slice(5).trim() !== "[DONE]") yield JSON.parse(line.slice(5));
    }
  }
}

/** One model's side of the conversation. */
class Column {
  constructor(model, turns = []) {
    this.model = model;
    this.turns = turns; // {role, content, note}
    this.abort = null;
    this.element = made("section", "card column");
    this.title = made("h2", "", model);
    this.list = made("div", "turns");
    this.element.append(this.title, this.list);
    this.draw();
  }

  draw() {
    this.list.replaceChildren(...this.turns.map((turn, place) => this.drawn(turn, place)));
  }

  drawn(turn, place) {
    const element = made("article", `turn ${turn.role}`);
    element.append(made("h3", "hint", turn.role === "user" ? say.you : blind() ? say.answerName : this.model));
    element.append(made("div", "said", turn.content));
    if (turn.note) element.append(made("p", turn.failed ? "problem" : "hint", turn.note));
    if (turn.role === "assistant" && place === this.turns.length - 1 && !this.abort) {
      const again = made("button", "quiet", say.again);
      again.onclick = () => { this.turns.splice(place); this.ask(); };
      element.append(again);
    }
    return element;
  }

  async ask() {
    const turn = { role: "assistant", content: "", note: "" };
    const messages = this.turns.filter((one) => !one.failed).map(({ role, content }) => ({ role, content }));
    const system = byId("system").value.trim();
    if (system) messages.unshift({ role: "system", content: system });
    const body = { model: this.model, messages, stream: true, stream_options: { include_usage: true } };
    const temperature = byId("temperature").value, most = byId("max-tokens").value;
    if (temperature !== "") body.temperature = Number(temperature);
    if (most !== "") body.max_tokens = Number(most);
    this.turns.push(turn);
    this.abort = new AbortController();
    this.draw();
    const element = this.list.lastElementChild, said = element.querySelector(".said");
    const stop = made("button", "quiet", say.stop);
    stop.onclick = () => this.abort?.abort();
    element.append(stop);
    const began = performance.now();
    let first = null, usage = null, record = "";
    try {
      const headers = { ...(await credential()), "content-type": "application/json" };
      const answer = await fetch("/v1/chat/completions", {
        method: "POST", headers, body: JSON.stringify(body), signal: this.abort.signal,
      });
      if (!answer.ok) {
        const refused = await answer.json().catch(() => ({}));
        throw new Error(refused.error?.message ?? `${answer.status}`);
      }
      record = answer.headers.get("x-baimo-record") ?? "";
      for await (const event of events(answer.body)) {
        if (event.error) throw new Error(event.error.message);
        usage = event.usage ?? usage;
        const piece = event.choices?.[0]?.delta?.content;
        if (piece) {
          first ??= performance.now() - began;
          turn.content += piece;
          said.textContent = turn.content;
        }
      }
    } catch (error) {
      turn.failed = error.name !== "AbortError";
      turn.note = turn.failed ? `${say.failedCall} ${error.message}` : say.stopped;
    }
    this.abort = null;
    if (!turn.failed) turn.note = await this.account(turn, usage, record, first, performance.now() - began);
    this.draw();
    keep();
  }

  /** What is known under an answer: tokens, money, time. Money comes from the ledger, where one may look. */
  async account(turn, usage, record, first, total) {
    const parts = turn.note ? [turn.note] : [];
    if (usage) parts.push(`${usage.prompt_tokens} + ${usage.completion_tokens} ${say.tokensShort}`);
    if (first !== null) parts.push(`${Math.round(first)} ms / ${(total / 1000).toFixed(1)} s`);
    for (let attempt = 0; record && attempt < 5; attempt += 1) {
      const answer = await fetch(`/api/ledger/records/${record}`, { headers: await credential() });
      if (answer.status === 404) { await new Promise((done) => setTimeout(done, 150)); continue; }
      if (answer.ok) {
        const line = await answer.json();
        parts.push(line.cost === null ? say.currencyUnknown : `${line.cost} ${line.currency}`);
      }
      break;
    }
    turn.record = record;
    return parts.join(" · ");
  }
}

let columns = [];
const blind = () => byId("blind").checked;

function keep() {
  const kept = columns.map(({ model, turns }) => ({ model, turns }));
  sessionStorage.setItem("baimo-chat", JSON.stringify({ kept, system: byId("system").value, blind: blind() }));
}

function picked() {
  return [...byId("models").querySelectorAll("input")].map((input) => input.value.trim()).filter(Boolean);
}

function arrange() {
  const names = picked();
  const before = new Map(columns.map((column) => [column.model, column]));
  columns = names.map((name) => before.get(name) ?? new Column(name, []));
  byId("columns").replaceChildren(...columns.map((column) => column.element));
  columns.forEach((column, place) => {
    column.title.textContent = blind() ? `${say.answerName} ${"ABCD"[place]}` : column.model;
    column.draw();
  });
  byId("models").hidden = blind() && columns.some((column) => column.turns.length);
  byId("add").disabled = names.length >= Number(say.most);
}

function start() {
  const kept = JSON.parse(sessionStorage.getItem("baimo-chat") ?? "null");
  const wished = new URLSearchParams(location.search).getAll("model");
  const same = !wished.length || kept?.kept.map(({ model }) => model).join() === wished.join();
  if (kept?.kept.length && same) {
    byId("system").value = kept.system;
    byId("blind").checked = kept.blind;
    const fields = byId("models").querySelectorAll(".picked");
    for (const field of [...fields].slice(1)) field.remove();
    kept.kept.forEach(({ model }, place) => { if (place) addField(model); else fields[0].querySelector("input").value = model; });
    columns = kept.kept.map(({ model, turns }) => new Column(model, turns));
  }
  arrange();
}

function addField(value = "") {
  const field = byId("models").querySelector(".picked").cloneNode(true);
  const input = field.querySelector("input");
  input.value = value;
  byId("add").before(field);
  return input;
}

if (root) {
  byId("add").onclick = () => addField().focus();
  byId("models").addEventListener("click", (event) => {
    if (event.target.matches("[data-remove]") && byId("models").querySelectorAll(".picked").length > 1) {
      event.target.closest(".picked").remove();
      arrange();
      keep();
    }
  });
  byId("models").addEventListener("change", () => { arrange(); keep(); });
  byId("blind").onchange = () => {
    if (blind()) columns.sort(() => Math.random() - 0.5);
    const names = columns.map((column) => column.model);
    [...byId("models").querySelectorAll("input")].forEach((input, place) => { input.value = names[place] ?? input.value; });
    arrange();
    keep();
  };
  byId("new").onclick = () => {
    for (const column of columns) { column.abort?.abort(); column.turns.length = 0; }
    arrange();
    keep();
  };
  byId("form").onsubmit = (event) => {
    event.preventDefault();
    const content = byId("text").value.trim();
    if (!content || columns.some((column) => column.abort)) return;
    byId("text").value = "";
    for (const column of columns) {
      column.turns.push({ role: "user", content });
      column.ask();
    }
    arrange();
  };
  byId("text").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); byId("form").requestSubmit(); }
  });
  start();
}
