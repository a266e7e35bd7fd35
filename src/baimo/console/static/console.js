// Every page works without this file; it makes pages live, asks before what cannot be undone, copies, and shows times
// in the browser's zone. Nothing here is needed to see or do something.

import { live } from "./live.js";

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
function copies(root) {
  for (const block of root.querySelectorAll("[data-copy]:not(:has(> .copy))")) {
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
}

function dress(root) {
  localTimes(root);
  copies(root);
}

// the tab of the page that is shown
for (const link of document.querySelectorAll(".tabs a")) {
  if (link.pathname === location.pathname) link.setAttribute("aria-current", "page");
}

dress(document);
live(dress);
