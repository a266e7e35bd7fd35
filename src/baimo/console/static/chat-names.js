// Models' names as they are read: a field that nobody writes in, and the head of an answer, show what tells a tuned
// model apart; the whole name is there when one writes in the field, points at it, or has it read aloud.

import { option } from "./chat-round.js";

export const sees = (name) => Boolean(option(name)?.hasAttribute("data-sees"));

/** The name that a field stands for, whichever of the two it shows. */
export const whole = (field) => field.dataset.whole ?? field.value.trim();

/** Let a field stand for this name. */
export function named(field, name) {
  delete field.dataset.whole;
  field.value = name;
  field.title = name;
  const short = option(name)?.getAttribute("label");
  if (short && document.activeElement !== field) {
    field.dataset.whole = name;
    field.value = short;
  }
}

/** In every field of a place: the whole name while one is in it. */
export function readable(place) {
  place.addEventListener("focusin", ({ target: field }) => {
    if (!field.matches("input[list]")) return;
    named(field, whole(field));
    field.select();
  });
  place.addEventListener("focusout", ({ target: field }) => {
    if (field.matches("input[list]")) setTimeout(() => named(field, whole(field)));
  });
}
