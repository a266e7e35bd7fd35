// One question and its answers, side by side: how they are asked for and how they look.

import { record, streamed } from "./chat-wire.js";

export const root = document.getElementById("chat");
export const say = root ? root.dataset : {};
export const byId = (name) => document.getElementById(`chat-${name}`);

export function made(name, className, text) {
  const element = document.createElement(name);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

/** The option of the list of models, where the model is offered. */
export const option = (model) => byId("names").querySelector(`option[value="${CSS.escape(model)}"]`);
const read = (model) => option(model)?.getAttribute("label") || model;

function button(text, act, label) {
  const element = made("button", "quiet", text);
  element.type = "button";
  if (label) element.setAttribute("aria-label", `${text}: ${label}`);
  element.onclick = act;
  return element;
}

/** What a message holds for the API: text alone, or text and pictures. */
function content(round) {
  const files = (round.files ?? []).filter((file) => file.text !== undefined);
  const text = [...files.map((file) => `${file.name}:\n\`\`\`\n${file.text}\n\`\`\``), round.text].join("\n\n");
  const pictures = (round.files ?? []).filter((file) => file.url);
  if (!pictures.length) return text;
  return [{ type: "text", text }, ...pictures.map(({ url }) => ({ type: "image_url", image_url: { url } }))];
}

/** The messages before and with the last question, as the model at one place is to see them. */
export function messages(rounds, system, place, model) {
  const said = system ? [{ role: "system", content: system }] : [];
  for (const round of rounds.slice(0, -1)) {
    if (round.dropped) continue;
    const heard = round.answers.filter((one) => !one.failed && one.text);
    const own = round.chosen != null ? round.answers[round.chosen]
      : round.answers[place]?.model === model ? round.answers[place] : heard.find((one) => one.model === model);
    const answer = own && !own.failed && own.text ? own : heard[0];
    if (answer) said.push({ role: "user", content: content(round) }, { role: "assistant", content: answer.text });
  }
  return [...said, { role: "user", content: content(rounds.at(-1)) }];
}

/** An answer while it comes and when it is there. */
export class Answer {
  constructor(model, facts = {}) {
    Object.assign(this, { model, text: "", note: "", failed: false, record: "" }, facts);
    this.abort = null;
  }

  /** What is kept of it. */
  plain() {
    const { model, text, note, failed, record } = this;
    return { model, text, note, failed, record };
  }

  async ask(path, body, drawn) {
    this.abort = new AbortController();
    Object.assign(this, { text: "", note: "", failed: false, record: "", usage: null });
    drawn();
    const began = performance.now();
    let first = null;
    try {
      const { headers, events } = await streamed(path, body, this.abort.signal);
      this.record = headers.get("x-baimo-record") ?? "";
      let ended = false;
      for await (const event of events) {
        if (event.error) throw new Error(event.error.message);
        if (event.failed) throw new Error(say.failedBlind);
        this.usage = event.usage ?? this.usage;
        ended ||= Boolean(event.done || event.choices?.[0]?.finish_reason);
        const delta = event.choices?.[0]?.delta;
        const piece = event.text ?? delta?.content ?? delta?.refusal;
        if (piece) {
          first ??= performance.now() - began;
          this.text += piece;
          if (this.said) this.said.textContent = this.text;
        }
      }
      if (!ended) throw new Error(say.interrupted);
    } catch (error) {
      this.failed = error.name !== "AbortError";
      this.note = this.failed ? `${say.failed} ${error.message}` : say.stopped;
    }
    this.took = { first, total: performance.now() - began };
    this.abort = null;
    drawn();
  }

  /** Tokens, money and time under the answer. Money comes from the ledger, where one may look. */
  async account(drawn) {
    const parts = this.note ? [this.note] : [];
    const asked = this.record;
    const line = await record(asked);
    if (this.record !== asked) return; // it was asked again meanwhile: this is the account of an answer that is gone
    const tokens = [line?.tokens_in ?? this.usage?.prompt_tokens, line?.tokens_out ?? this.usage?.completion_tokens];
    if (tokens.every((count) => count != null)) {
      parts.push(say.tokens.replace("{input}", tokens[0]).replace("{output}", tokens[1]));
    }
    if (this.took?.first != null) parts.push(`${Math.round(this.took.first)} ms / ${(this.took.total / 1000).toFixed(1)} s`);
    if (line) parts.push(line.cost === null ? say.costUnknown : `${line.cost} ${line.currency}`);
    this.note = parts.join(" · ");
    drawn();
  }
}

/** A question and its answers. `acts`: what the page does on `again`, `edit` and `changed`. */
export class Round {
  constructor(text, files, answers, facts = {}) {
    Object.assign(this, { text, files, answers, chosen: null, dropped: false, vote: null, open: false }, facts);
    this.element = made("section", "round");
  }

  static of(kept) {
    const answers = (kept.answers ?? []).map((one) => new Answer(one.model, one));
    const files = (kept.attached ?? []).map((name) => ({ name }));
    const { chosen = null, vote = null } = kept;
    return new Round(kept.text ?? "", files, answers, { chosen, vote, dropped: Boolean(kept.dropped), open: Boolean(kept.open) });
  }

  plain() {
    const { text, chosen, dropped, vote } = this;
    const attached = (this.files ?? []).map(({ name }) => name);
    return { text, attached, chosen, dropped, vote, answers: this.answers.map((one) => one.plain()) };
  }

  get busy() { return this.answers.some((one) => one.abort); }

  name(place, how = (model) => model) {
    const letter = this.answers.length > 1 ? "ABCD"[place] : "", model = this.answers[place].model;
    if (!model) return `${say.answer} ${letter}`.trim();
    return this.vote && letter ? `${letter} · ${how(model)}` : how(model);
  }

  draw(acts, last) {
    const asked = made("article", "asked");
    const said = made("div", "said", this.text);
    asked.append(made("h2", "hint", say.you), said);
    for (const file of this.files ?? []) {
      asked.append(made("p", "hint", file.url || file.text !== undefined ? file.name : `${file.name} · ${say.pictureNotKept}`));
    }
    if (!this.busy && !this.open) asked.append(button(say.edit, () => this.edit(asked, said, acts), this.text.slice(0, 40)));
    const columns = made("div", "columns");
    columns.append(...this.answers.map((one, place) => this.drawn(one, place, acts, last)));
    this.element.replaceChildren(asked, columns);
  }

  drawn(one, place, acts, last) {
    const element = made("article", `card column answer${this.chosen === place ? " chosen" : ""}`);
    const head = made("h2", "", this.name(place, read));
    if (one.model) head.title = one.model;
    one.said = made("div", "said", one.text);
    element.append(head, one.said);
    if (one.abort) element.setAttribute("aria-busy", "true");
    if (one.note) element.append(made("p", one.failed ? "problem" : "hint", one.note));
    if (one.abort) element.append(button(say.stop, () => one.abort?.abort(), this.name(place)));
    else if (last && (!this.vote || (this.open && one.failed))) {
      element.append(button(say.again, () => acts.again(this, place), this.name(place)));
    }
    return element;
  }

  edit(asked, said, acts) {
    const field = made("textarea");
    field.value = this.text;
    field.rows = 3;
    field.setAttribute("aria-label", say.edit);
    const row = made("div", "acts");
    row.append(button(say.resend, () => acts.edit(this, field.value.trim())), button(say.cancel, () => acts.changed(this)));
    asked.replaceChildren(asked.firstElementChild, field, row);
    field.onkeydown = (event) => {
      if (event.key === "Escape") acts.changed(this);
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); acts.edit(this, field.value.trim()); }
    };
    field.focus();
  }
}
