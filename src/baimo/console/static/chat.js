// A conversation with one to four models side by side, over the endpoint's own API. What was said lives in this tab
// (sessionStorage) unless its person wants it kept. In a blind vote this script asks for places, A, B …, and learns the
// names when the vote is cast.

import { api } from "./chat-wire.js";
import { Answer, Round, byId, made, messages, root, say } from "./chat-round.js";
import { named, readable, sees, whole } from "./chat-names.js";
import { attachment, example, forgotten, keep, keptAlready, listed, share } from "./chat-keep.js";

const TAB = "baimo-chat";
const PARAMETERS = ["temperature", "top_p", "max_tokens", "seed"];
let rounds = [];
let files = [];

const blind = () => byId("blind").checked;
const busy = () => rounds.some((round) => round.busy);
const open = () => rounds.at(-1)?.open;
const picked = () => [...new Set([...byId("models").querySelectorAll(".picked input")].map(whole).filter(Boolean))];
const seeing = () => picked().every(sees);

function parameters() {
  const said = PARAMETERS.map((name) => [name, byId(name).value]).filter(([, value]) => value !== "");
  return Object.fromEntries(said.map(([name, value]) => [name, Number(value)]));
}

function content() {
  const known = rounds.filter((round) => !round.open).map((round) => round.plain());
  return { models: picked(), system: byId("system").value, parameters: parameters(), rounds: known };
}

function problem(words = "") {
  byId("problem").textContent = words;
  byId("problem").hidden = !words;
}

function told(words) {
  byId("told").textContent = words;
}

/** This tab remembers, whatever becomes of the page in the next moment. */
function noted() {
  const { conversation, share } = root.dataset, all = rounds.map((round) => ({ ...round.plain(), open: round.open }));
  sessionStorage.setItem(TAB, JSON.stringify({ ...content(), rounds: all, blind: blind(), conversation, share }));
}

/** After every change: so does the history, if the conversation is kept. */
function remember() {
  noted();
  if (root.dataset.conversation && !busy()) keep(content()).catch((error) => problem(error.message));
}

const acts = {
  changed: (round) => { round.draw(acts, round === rounds.at(-1)); arrange(); },
  again: async (round, place) => { await asked(round, [place]); },
  edit: async (round, text) => {
    if (!text || busy()) return;
    rounds.splice(rounds.indexOf(round));
    await begin(text, round.files.filter((file) => file.url || file.text !== undefined));
  },
};

function arrange() {
  const running = busy();
  byId("rounds").replaceChildren(...(rounds.length ? rounds.map(({ element }) => element)
    : [made("p", "empty", blind() ? `${say.start} ${say.startBlind}` : say.start)]));
  byId("stop").hidden = !running;
  byId("send").hidden = running;
  byId("acts").hidden = !rounds.length;
  byId("add").disabled = picked().length >= Number(say.most);
  byId("vote").hidden = !open() || running;
  byId("form").hidden = Boolean(open()) && !running;
  for (const name of ["keep", "share", "example"]) if (byId(name) && !(name === "keep" && root.dataset.conversation)) byId(name).disabled = running || Boolean(open());
}

async function begin(text, attached) {
  problem();
  const models = picked(), hidden = blind();
  if (hidden && (models.length < 2 || models.length > Number(say.most))) { problem(say.blindTwo); return false; }
  let vote = null;
  if (hidden) {
    try {
      vote = await api("POST", "/api/votes", { models });
    } catch (error) { problem(error.message); return false; }
  }
  const answers = vote ? vote.places.map(() => new Answer("")) : models.map((name) => new Answer(name));
  const round = new Round(text, attached, answers, { vote: vote?.vote ?? null, open: Boolean(vote) });
  rounds.push(round);
  rounds.at(-2)?.draw(acts, false);
  round.draw(acts, true);
  arrange();
  noted();
  round.element.scrollIntoView({ block: "center" });
  await asked(round, answers.map((_, place) => place));
  return true;
}

async function asked(round, places) {
  const system = byId("system").value.trim();
  const changed = () => { round.draw(acts, round === rounds.at(-1)); arrange(); };
  told(`${places.map((place) => round.name(place)).join(", ")} ${say.waiting}`);
  await Promise.all(places.map(async (place) => {
    const one = round.answers[place];
    const body = { messages: messages(rounds.slice(0, rounds.indexOf(round) + 1), system, place, one.model), ...parameters() };
    if (round.vote) {
      await one.ask(`/api/votes/${round.vote}/${"ABCD"[place]}`, body, changed);
    } else {
      const wanted = { model: one.model, stream: true, stream_options: { include_usage: true } };
      await one.ask("/v1/chat/completions", { ...body, ...wanted }, changed);
    }
    noted();
    told(`${round.name(place)}: ${one.text || one.note}`);
    if (!round.vote && one.record) await one.account(changed);
  }));
  if (round.open) ballot(round);
  remember();
}

/** The buttons of a vote; what comes back tells the names. */
function ballot(round) {
  const row = byId("vote").querySelector(".acts");
  const choices = round.answers.map((_, place) => ["ABCD"[place], say.voteBetter.replace("{place}", "ABCD"[place])]);
  row.replaceChildren(...[...choices, ["tie", say.voteTie], ["bad", say.voteBad]].map(([choice, words]) => {
    const button = made("button", "", words);
    button.type = "button";
    button.onclick = () => cast(round, choice).catch((error) => problem(error.message));
    return button;
  }));
  arrange();
  byId("vote-title").focus();
}

async function cast(round, choice) {
  problem();
  const vote = await api("PATCH", `/api/votes/${round.vote}`, { choice });
  round.open = false;
  round.dropped = choice === "bad";
  round.chosen = choice === "bad" ? null : Math.max(0, "ABCD".indexOf(choice));
  vote.answers.forEach(({ model, record }, place) => Object.assign(round.answers[place], { model, record }));
  const names = round.answers.map((_, place) => round.name(place)).join(", ");
  if (choice === "tie") round.chosen = null;
  acts.changed(round);
  told(`${vote.model ? say.voted.replace("{choice}", vote.model) : say.votedNone} ${names}`);
  byId("text").focus();
  await Promise.all(round.answers.map((one) => one.account(() => acts.changed(round))));
  remember();
}

function stopped() {
  for (const round of rounds) for (const one of round.answers) one.abort?.abort();
}

function addField(value = "") {
  const field = byId("models").querySelector(".picked").cloneNode(true);
  const input = field.querySelector("input");
  byId("add").before(field);
  named(input, value);
  return input;
}

function restored(kept) {
  byId("system").value = kept.system ?? "";
  for (const name of PARAMETERS) byId(name).value = kept.parameters?.[name] ?? "";
  const fields = [...byId("models").querySelectorAll(".picked")];
  for (const field of fields.slice(1)) field.remove();
  (kept.models ?? []).forEach((model, place) => { if (place) addField(model); else named(fields[0].querySelector("input"), model); });
  rounds = (kept.rounds ?? []).map((round) => Round.of(round));
  rounds.forEach((round) => round.draw(acts, round === rounds.at(-1)));
}

async function start() {
  const wished = new URLSearchParams(location.search).getAll("model");
  if (root.dataset.source) {
    restored((await api("GET", root.dataset.source)).content);
  } else {
    const kept = JSON.parse(sessionStorage.getItem(TAB) ?? "null");
    if (kept?.rounds && (!wished.length || kept.models.join() === wished.join())) {
      restored(kept);
      byId("blind").checked = kept.blind;
      Object.assign(root.dataset, { conversation: kept.conversation ?? "", share: kept.share ?? "" });
    }
  }
  for (const field of byId("models").querySelectorAll(".picked input")) named(field, whole(field));
  keptAlready();
  arrange();
  if (open()) ballot(rounds.at(-1));
}

function listen() {
  readable(byId("models"));
  byId("add").onclick = () => { addField().focus(); arrange(); };
  byId("models").addEventListener("click", (event) => {
    if (event.target.matches("[data-remove]") && byId("models").querySelectorAll(".picked").length > 1) {
      event.target.closest(".picked").remove();
      arrange();
      remember();
    }
  });
  byId("models").addEventListener("change", () => { arrange(); remember(); });
  byId("new").onclick = () => {
    stopped();
    rounds = [];
    forgotten();
    history.replaceState(null, "", "/console/chat");
    root.dataset.source = "";
    remember();
    arrange();
    byId("text").focus();
  };
  byId("form").onsubmit = async (event) => {
    event.preventDefault();
    const text = byId("text").value.trim();
    if (!text || busy()) return;
    if (open()) { problem(say.voteFirst); return; }
    byId("text").value = "";
    const sent = files;
    files = [];
    listed(files, () => {});
    if (!await begin(text, sent)) {
      byId("text").value = text;
      files = sent;
      showFiles();
    }
  };
  byId("text").onkeydown = (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); byId("form").requestSubmit(); }
  };
  document.addEventListener("keydown", (event) => { if (event.key === "Escape" && busy()) stopped(); });
  byId("stop").onclick = stopped;
  byId("files").onchange = async () => {
    problem();
    for (const file of byId("files").files) {
      try { files.push(await attachment(file, seeing())); } catch (error) { problem(error.message); }
    }
    byId("files").value = "";
    showFiles();
  };
  const doing = (name, act) => { if (byId(name)) byId(name).onclick = () => act().then(remember).catch((error) => problem(error.message)); };
  doing("keep", () => keep(content()));
  doing("share", () => share(content()));
  doing("example", async () => {
    const round = rounds.at(-1), place = round.chosen ?? 0;
    const heard = messages(rounds, byId("system").value.trim(), place, round.answers[place]?.model);
    const answers = round.answers.map((one, at) => ({ name: round.name(at), text: one.text, chosen: at === round.chosen }));
    const saved = await example([{ text: round.text, messages: heard }], answers);
    if (saved) told(saved);
    byId("example").focus();
  });
}

function showFiles() {
  listed(files, showFiles);
}

if (root) {
  listen();
  start().catch((error) => problem(error.message));
}
