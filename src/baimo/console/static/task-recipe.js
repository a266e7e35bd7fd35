// Another kind of scorer has other options: they are drawn as soon as it is chosen. Without this file a button does it.

document.querySelector("form[data-recipe]").addEventListener("change", (event) => {
  if ("draw" in event.target.dataset) event.target.form.requestSubmit(event.target.form.querySelector("button[hidden]"));
});
