// <div data-live="10" data-events="…">: parts of a page that are drawn anew from the page's own address when an event
// says that something has happened. Where no stream of events can be had, the address is asked again every so many
// seconds (data-live; 0 = there will be nothing new). While nobody looks at the page, neither happens.

const TURN_MS = 1000;
const LEAST_MS = 700;  // between two drawings
const PART = 4;  // a page that takes long to draw is drawn less often: at most a fifth of the time
const SILENT_MS = 40_000;  // the server says something every 15 s: after this long the connection is lost
const AGAIN_MS = 5000;  // until what was refused or lost, a stream or a drawing, is asked for again

const parts = () => [...document.querySelectorAll("[data-live]")];
const seconds = (name) => Math.min(...parts().map((one) => Number(one.dataset[name]) || Infinity));

// Makes an element like another and keeps what the reader has done to it: focus, what is typed, unfolded, scrolled.
function become(now, next) {
  if (now.nodeType !== Node.ELEMENT_NODE) {
    if (now.data !== next.data) now.data = next.data;
    return;
  }
  if (now.nodeName === "TIME" && now.dateTime === next.dateTime) return;  // it shows the browser's zone
  if (now.dataset.copy !== undefined && now.querySelector("code")?.textContent === next.textContent) return;
  const atEnd = now.dataset.tail !== undefined && now.scrollTop + now.clientHeight >= now.scrollHeight - 4;
  const theirs = (name) => name === "open" && now.nodeName === "DETAILS";
  for (const { name, value } of next.attributes) {
    if (!theirs(name) && now.getAttribute(name) !== value) now.setAttribute(name, value);
  }
  for (const { name } of [...now.attributes]) if (!theirs(name) && !next.hasAttribute(name)) now.removeAttribute(name);
  grow(now, next);
  if (atEnd) now.scrollTop = now.scrollHeight;
}

const kin = (one, other) => one.nodeName === other.nodeName && key(one) === key(other);
const key = (one) => one.id || one.dataset?.key || one.getAttribute?.("aria-labelledby")
  || one.className?.baseVal || one.className || "";

// A thing that is still there further on is not taken away for one that is merely like the next.
export function grow(now, next) {
  const before = [...now.childNodes], coming = [...next.childNodes];
  const awaited = (one, from) => one.nodeType === Node.ELEMENT_NODE && coming.slice(from).some((next) => kin(one, next));
  coming.forEach((fresh, place) => {
    const at = before.findIndex((one) => kin(one, fresh));
    const between = before.slice(0, Math.max(at, 0));
    if (at < 0 || between.some((one) => awaited(one, place + 1))) {
      now.insertBefore(fresh, before[0] ?? null);
    } else {
      for (const gone of before.splice(0, at)) gone.remove();
      become(before.shift(), fresh);
    }
  });
  for (const gone of before) gone.remove();
}

export function live(dress) {
  let stream = null, heard = 0, again = 0;  // the stream, its last sign of life, when to ask for one
  let pending = false, drawing = false, drawn = performance.now(), pause = LEAST_MS;
  let last = "";  // id of the last event

  const notice = document.createElement("p");
  notice.className = "lost";
  notice.setAttribute("role", "status");
  document.body.append(notice);
  const lost = (is) => { notice.textContent = is ? parts()[0]?.dataset.lost ?? "" : ""; };

  async function draw() {
    drawing = true;
    pending = false;
    const began = performance.now();
    let fine = false;
    try {
      const signal = AbortSignal.timeout(SILENT_MS);
      const answer = await fetch(location.href, { headers: { accept: "text/html" }, signal });
      const elsewhere = answer.redirected && new URL(answer.url).pathname !== location.pathname;
      if (elsewhere || answer.status === 404) return location.reload();  // signed out, or deleted: the page says so
      if (answer.ok) {
        const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
        const next = fresh.querySelectorAll("[data-live]");
        parts().forEach((part, at) => { if (next[at]) become(part, next[at]); });
        for (const part of parts()) dress(part);
        fine = true;
      }
      lost(answer.status >= 502);
    } catch {
      lost(true);
    } finally {
      drawn = performance.now();
      pause = fine ? Math.max(LEAST_MS, PART * (drawn - began)) : AGAIN_MS;
      pending ||= !fine;  // the event may have been the last
      drawing = false;
    }
  }

  function listen() {
    const from = parts().find((one) => one.dataset.events)?.dataset.events;
    if (!from) return;
    const address = new URL(from, location.href);
    if (last) address.searchParams.set("after", last);
    heard = performance.now();
    const mine = stream = new EventSource(address);
    const alive = () => { heard = performance.now(); };
    mine.onopen = alive;
    mine.addEventListener("quiet", alive);
    mine.addEventListener("changed", (event) => {
      alive();
      last = event.lastEventId;
      pending = true;
      turn();
    });
    mine.onerror = () => {
      pending = true;  // whatever happened meanwhile
      if (mine.readyState === EventSource.CLOSED && stream === mine) leave();
    };
  }

  function leave() {
    stream?.close();
    stream = null;
    again = performance.now() + AGAIN_MS;
  }

  function turn() {
    if (document.hidden) return;
    const now = performance.now(), every = seconds("live");
    if (every === Infinity) {
      if (stream) leave();
      lost(false);
      return;
    }
    if (stream && now - heard > SILENT_MS) leave();
    if (!stream && now >= again) listen();
    const open = stream?.readyState === EventSource.OPEN;
    const due = now - drawn >= 1000 * (open ? seconds("also") : every);
    const may = now - drawn >= pause && !document.querySelector("dialog[open]");
    if (!drawing && may && (due || (pending && (open || now - drawn >= 1000)))) draw();
  }

  if (!parts().length) return;
  for (const log of document.querySelectorAll("[data-tail]")) log.scrollTop = log.scrollHeight;
  setInterval(turn, TURN_MS);
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) {
      leave();
      again = 0;
    } else {
      pending = true;
      turn();
    }
  });
  addEventListener("pagehide", () => { leave(); again = 0; });
  turn();
}
