// The playground's keys, and a conversation that stays at its end while an answer comes.
(() => {
  if (window.playgroundKeys) return;
  window.playgroundKeys = true;

  if (/Mac|iPhone|iPad/.test(navigator.platform)) document.documentElement.dataset.mac = "";

  const find = (selector) => document.querySelector(selector);

  document.addEventListener("keydown", (event) => {
    const composer = event.target.closest?.("[data-composer]");
    if (composer && event.key === "Enter" && (event.metaKey || event.ctrlKey)) {
      event.preventDefault();
      if (!find("#stop") && composer.value.trim()) composer.form.requestSubmit();
    }
    // Escape belongs to whatever lies over the page first.
    if (event.key === "Escape" && !find("dialog[open], [popover]:popover-open")) find("#stop")?.click();
  });

  // Whoever scrolls up to read is left there.
  let atEnd = true;
  const distance = (box) => box.scrollHeight - box.scrollTop - box.clientHeight;

  document.addEventListener(
    "scroll",
    (event) => {
      if (event.target.id === "conversation") atEnd = distance(event.target) < 80;
    },
    true,
  );

  document.addEventListener("submit", () => (atEnd = true));

  new MutationObserver(() => {
    const box = find("#conversation");
    if (box && atEnd && distance(box) > 0) box.scrollTop = box.scrollHeight;
  }).observe(document.documentElement, { subtree: true, childList: true, characterData: true });
})();
