// Judging without a mouse: a agrees, f writes the right answer and a second time sends it, r rejects, j goes on, k goes
// back to the queue, ? tells the keys. Buttons and links do the same; in a field, keys are letters.

const form = document.querySelector("form[data-review]");
const correction = form.elements.correction;
const keys = document.getElementById("keys");

function pressed(key) {
  const place = document.querySelector(`[data-key="${key}"]`);
  if (!place) return false;
  if (key === "f" && !correction.value.trim()) correction.focus();
  else if (place.form) form.requestSubmit(place);
  else place.click();
  return true;
}

document.addEventListener("keydown", (event) => {
  const field = event.target.matches("textarea, input:not([type=checkbox]), select");
  if (field) {
    if (event.key === "Escape") event.target.blur();
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && event.target === correction) pressed("f");
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey || keys.open) return;
  if (event.key === "?") keys.showModal();
  else if (!pressed(event.key.toLowerCase())) return;
  event.preventDefault();
});
