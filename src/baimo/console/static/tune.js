// A job's page is drawn anew when something happens to it: events say that, the page says what. Without this file, a
// reload shows the same.

const part = document.querySelector("[data-follow]");
const PAUSE_MS = 700;
let waiting = false;
let stream = null;

function times(root) {
  for (const time of root.querySelectorAll("time[datetime]")) {
    time.textContent = new Date(time.dateTime).toLocaleString(document.documentElement.lang, { dateStyle: "medium", timeStyle: "short" });
  }
}

function open(root) {
  return [...root.querySelectorAll("details")].map((one) => one.open);
}

async function draw() {
  waiting = false;
  if (document.hidden || document.querySelector("dialog[open]") || part.querySelector("input:focus, button:focus, summary:focus, a:focus")) return later();
  try {
    const answer = await fetch(location.pathname, { headers: { accept: "text/html" } });
    if (!answer.ok || answer.redirected) return;
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("[data-follow]");
    if (!fresh) return;
    const before = open(part);
    const typed = [...part.querySelectorAll("input:not([type=hidden])")].map((one) => one.value);
    const log = part.querySelector(".log");
    const atEnd = !log || log.scrollTop + log.clientHeight >= log.scrollHeight - 4;
    part.replaceChildren(...fresh.childNodes);
    part.dataset.ended = fresh.dataset.ended;
    [...part.querySelectorAll("details")].forEach((one, at) => { if (before[at] !== undefined) one.open = before[at]; });
    [...part.querySelectorAll("input:not([type=hidden])")].forEach((one, at) => { if (typed[at]) one.value = typed[at]; });
    const now = part.querySelector(".log");
    if (now && atEnd) now.scrollTop = now.scrollHeight;
    times(part);
  } catch { /* the next event asks again */ }
}

function later() {
  if (waiting) return;
  waiting = true;
  setTimeout(draw, PAUSE_MS);
}

const KINDS = ["created", "validating", "validated", "queued", "running", "started", "plan", "progress", "checkpoint", "notice", "log",
  "paused", "done", "failed", "cancelled", "succeeded", "ended", "model_created"];

function follow() {
  stream = new EventSource(part.dataset.follow);
  for (const kind of KINDS) stream.addEventListener(kind, later);
  // an ended job says nothing more; a lost connection is mended by the browser, which says where it was
  stream.addEventListener("end", () => { stream.close(); later(); });
}

if (part && !part.dataset.ended) follow();
addEventListener("pagehide", () => stream?.close());
const log = part?.querySelector(".log");
if (log) log.scrollTop = log.scrollHeight;
