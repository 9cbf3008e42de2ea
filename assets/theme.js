// Runs before the first paint, so that a page never flashes in the wrong colours or names the wrong key.
(() => {
  let chosen = null;
  try {
    chosen = localStorage.getItem("theme");
  } catch {
    // Storage may be forbidden; then the system's scheme holds.
  }
  const root = document.documentElement;
  root.dataset.keys = /Mac|iPhone|iPad/.test(navigator.platform) ? "mac" : "other";
  root.classList.remove("light", "dark");
  if (chosen === "light" || chosen === "dark") root.classList.add(chosen);
})();
