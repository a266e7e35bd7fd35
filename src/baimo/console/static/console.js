// Every page works without this file; it makes pages live, asks before what cannot be undone, copies, and shows times
// in the browser's zone. Nothing here is needed to see or do something.

const lang = document.documentElement.lang;

function localTimes(root) {
  for (const time of root.querySelectorAll("time[datetime]")) {
    const at = new Date(time.dateTime);
    time.textContent = at.toLocaleString(lang, { dateStyle: "medium", timeStyle: "short" });
    time.title = at.toLocaleString(lang, { dateStyle: "full", timeStyle: "long" });
  }
}

// <form data-confirm="…">: asked in a dialog of the page, in the page's language; also in parts that were drawn anew
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (!form.dataset.confirm || form.dataset.sure) return;
  event.preventDefault();
  const submitter = event.submitter;
  const dialog = document.createElement("dialog");
  const words = document.createElement("p");
  words.textContent = form.dataset.confirm;
  const yes = submitter.cloneNode(true);
  yes.type = "button";
  const no = document.createElement("button");
  no.textContent = document.body.dataset.cancel;
  const acts = document.createElement("div");
  acts.className = "acts";
  acts.append(yes, no);
  dialog.append(words, acts);
  document.body.append(dialog);
  no.onclick = () => dialog.close();
  yes.onclick = () => { form.dataset.sure = "1"; form.requestSubmit(submitter); };
  dialog.onclose = () => { dialog.remove(); submitter.focus(); };
  dialog.showModal();
  no.focus();
});

// <pre data-copy>: a button that copies
for (const block of document.querySelectorAll("[data-copy]")) {
  const button = document.createElement("button");
  button.className = "copy";
  const label = document.body.dataset.copyWord;
  button.textContent = label;
  button.onclick = async () => {
    await navigator.clipboard.writeText(block.querySelector("code").textContent);
    button.textContent = "✓";
    setTimeout(() => { button.textContent = label; }, 1500);
  };
  block.prepend(button);
}

// <div data-live="10">: drawn anew every so many seconds, from the same address, while somebody looks. A lost
// connection changes nothing: the next turn asks again.
for (const part of document.querySelectorAll("[data-live]")) {
  const place = [...document.querySelectorAll("[data-live]")].indexOf(part);
  const turn = async () => {
    if (!document.hidden && !part.contains(document.activeElement)) {
      try {
        const answer = await fetch(location.href, { headers: { accept: "text/html" } });
        if (answer.ok && !answer.redirected) {
          const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
          const next = fresh.querySelectorAll("[data-live]")[place];
          if (next && next.innerHTML !== part.dataset.drawn) {
            part.dataset.live = next.dataset.live;
            part.dataset.drawn = next.innerHTML;
            part.replaceChildren(...next.childNodes);
            localTimes(part);
          }
        }
      } catch { /* asked again at the next turn */ }
    }
    again();
  };
  // 0: there will be nothing new
  const again = () => { if (Number(part.dataset.live)) setTimeout(turn, Number(part.dataset.live) * 1000); };
  again();
}

// the tab of the page that is shown
for (const link of document.querySelectorAll(".tabs a")) {
  if (link.pathname === location.pathname) link.setAttribute("aria-current", "page");
}

localTimes(document);
