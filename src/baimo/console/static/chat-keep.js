// What outlives the page: the history, the link for others of the tenant, and examples for a task.

import { api } from "./chat-wire.js";
import { byId, made, root, say } from "./chat-round.js";

const TITLE = 60;
let saving = Promise.resolve();

function shown(share) {
  root.dataset.share = share ?? "";
  const button = byId("share"), link = byId("link").querySelector("a");
  byId("link").hidden = !share;
  if (button) button.textContent = share ? button.dataset.unshare : button.dataset.share;
  if (share) {
    link.href = `/console/chat/shared/${share}`;
    link.textContent = link.href;
  }
}

/** One after the other, so that an older state never overwrites a newer one. */
function inTurn(act) {
  saving = saving.then(act, act);
  return saving;
}

/** Keep the conversation, and from then on what is added to it. */
export function keep(content) {
  const title = (content.rounds[0]?.text || say.answer).replace(/\s+/g, " ").slice(0, TITLE);
  return inTurn(async () => {
    if (root.dataset.conversation) {
      await api("PATCH", `/api/conversations/${root.dataset.conversation}`, { content });
    } else {
      const made = await api("POST", "/api/conversations", { title, content });
      root.dataset.conversation = made.conversation;
      history.replaceState(null, "", `/console/chat/${made.conversation}`);
    }
    keptAlready();
  });
}

export function keptAlready() {
  const button = byId("keep"), kept = Boolean(root.dataset.conversation);
  if (!button) return;
  button.textContent = kept ? `✓ ${say.kept}` : say.keep;
  button.disabled = kept;
  shown(root.dataset.share || null);
}

/** Nothing is kept any more of what is said from here. */
export function forgotten() {
  root.dataset.conversation = root.dataset.share = "";
  keptAlready();
}

export async function share(content) {
  if (!root.dataset.conversation) await keep(content);
  const wanted = !root.dataset.share;
  const changed = await api("PATCH", `/api/conversations/${root.dataset.conversation}`, { share: wanted });
  shown(changed.share);
}

/** A form that turns the last question into an example of a task; resolves to a message, or null. */
export async function example(asked, answers) {
  const form = byId("example-form"), task = byId("example-task"), which = byId("example-which");
  const problem = form.querySelector(".problem"), none = form.querySelector(".empty");
  const found = await api("GET", "/api/tasks?limit=500");
  const names = found.data.filter((one) => one.own).map((one) => one.name);
  task.replaceChildren(...names.map((name) => new Option(name, name)));
  none.hidden = Boolean(names.length);
  byId("example-save").disabled = !names.length;
  byId("example-question").value = asked.at(-1).text;
  which.replaceChildren(...answers.map(({ name }, place) => new Option(name, place)), new Option(`– ${say.exampleNone}`, ""));
  const filled = () => { byId("example-answer").value = which.value === "" ? "" : answers[which.value].text; };
  which.onchange = filled;
  which.value = String(Math.max(0, answers.findIndex((one) => one.chosen)));
  filled();
  problem.hidden = true;
  form.showModal();
  return new Promise((resolve) => {
    form.onclose = () => resolve(null);
    byId("example-save").onclick = async (event) => {
      event.preventDefault();
      const body = { messages: asked.at(-1).messages, source: "chat" }, expected = byId("example-answer").value.trim();
      if (expected) body.expected = expected;
      try {
        await api("POST", `/api/tasks/${encodeURIComponent(task.value)}/examples`, body);
        form.onclose = null;
        form.close();
        resolve(say.exampleSaved.replace("{task}", task.value));
      } catch (error) {
        problem.textContent = error.message;
        problem.hidden = false;
      }
    };
  });
}

const MOST_MB = 5;
const TEXT = /^(text\/|application\/(json|xml|x-yaml|yaml|toml))/;
const TEXT_NAMES = /\.(txt|md|csv|tsv|json|jsonl|xml|ya?ml|toml|ini|log|py|js|ts|html|css|sql|sh)$/i;

/** A file as a message holds it: its text, or a picture where every model sees. */
export async function attachment(file, seeing) {
  if (file.size > MOST_MB * 1024 * 1024) throw new Error(say.attachLarge.replace("{name}", file.name).replace("{most}", MOST_MB));
  if (file.type.startsWith("image/") && seeing) {
    const url = await new Promise((resolve, reject) => {
      const reader = new FileReader();
      reader.onload = () => resolve(reader.result);
      reader.onerror = () => reject(reader.error);
      reader.readAsDataURL(file);
    });
    return { name: file.name, url };
  }
  if (TEXT.test(file.type) || TEXT_NAMES.test(file.name)) return { name: file.name, text: await file.text() };
  throw new Error(say.attachNot.replace("{name}", file.name));
}

/** The names of what goes with the next question, each with a button that takes it away. */
export function listed(files, changed) {
  byId("attached").hidden = !files.length;
  byId("attached").replaceChildren(...files.map((file, place) => {
    const item = made("li", "", file.name), away = made("button", "quiet", "×");
    away.type = "button";
    away.setAttribute("aria-label", `${say.remove}: ${file.name}`);
    away.onclick = () => { files.splice(place, 1); changed(); };
    item.append(away);
    return item;
  }));
}
