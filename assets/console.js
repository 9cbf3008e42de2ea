// What the console does without asking the server: copying, dialogs, menus, the command palette, the colour scheme.
// Everything is asked for by attributes and found by delegation, because React draws and redraws the elements.
(() => {
  const find = (selector) => document.querySelector(selector);

  // Copying ----------------------------------------------------------------------------------------------------
  const copy = async (button) => {
    const source = button.dataset.copyFrom && find(button.dataset.copyFrom);
    const text = source ? (source.value ?? source.textContent) : (button.dataset.copy ?? "");
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // Plain http on another address than this machine's: browsers leave only the old way.
      const area = document.createElement("textarea");
      area.value = text;
      area.className = "for-screen-readers";
      (button.closest("dialog") ?? document.body).append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    button.dataset.copied = "";
    setTimeout(() => delete button.dataset.copied, 1600);
  };

  // Dialogs: the server's state says `data-shown`, the browser does the rest ------------------------------------
  const settle = (dialog) => {
    const wanted = dialog.dataset.shown === "true";
    if (wanted && !dialog.open) dialog.showModal();
    if (!wanted && dialog.open) dialog.close();
  };

  const dismiss = (dialog) => {
    const button = dialog.querySelector("[data-dismiss]");
    if (button) button.click();
    else dialog.close();
  };

  const watch = () => {
    document.querySelectorAll("dialog[data-shown]").forEach(settle);
    new MutationObserver((changes) => {
      for (const change of changes) {
        if (change.type === "attributes") settle(change.target);
        for (const node of change.addedNodes) {
          if (node.nodeType !== Node.ELEMENT_NODE) continue;
          if (node.matches("dialog[data-shown]")) settle(node);
          node.querySelectorAll("dialog[data-shown]").forEach(settle);
        }
      }
    }).observe(document.body, { subtree: true, childList: true, attributes: true, attributeFilter: ["data-shown"] });
  };

  // Escape must go through the state too, or the next opening would be no change.
  document.addEventListener(
    "cancel",
    (event) => {
      if (!event.target.matches?.("dialog[data-shown]")) return;
      event.preventDefault();
      dismiss(event.target);
    },
    true,
  );

  // A press that starts and ends on the veil; not one that began as a text selection inside.
  let pressed = null;
  document.addEventListener("pointerdown", (event) => (pressed = event.target));

  // The command palette --------------------------------------------------------------------------------------
  const palette = () => find("#palette");
  const commands = () => [...palette().querySelectorAll("li")].filter((line) => !line.hidden);

  const choose = (line) => {
    palette()
      .querySelectorAll("li")
      .forEach((other) => other.setAttribute("aria-selected", String(other === line)));
    line?.scrollIntoView({ block: "nearest" });
    if (line) find("#palette-input").setAttribute("aria-activedescendant", line.id);
  };

  const filter = () => {
    const words = find("#palette-input").value.toLowerCase().split(/\s+/).filter(Boolean);
    palette()
      .querySelectorAll("li")
      .forEach((line) => {
        const text = `${line.textContent} ${line.dataset.words ?? ""}`.toLowerCase();
        line.hidden = !words.every((word) => text.includes(word));
      });
    find("#palette-nothing").hidden = commands().length > 0;
    choose(commands()[0]);
  };

  const openPalette = () => {
    if (!palette() || palette().open) return;
    find("#palette-input").value = "";
    filter();
    palette().showModal();
    find("#palette-input").focus();
  };

  const movePalette = (step) => {
    const lines = commands();
    const now = lines.findIndex((line) => line.getAttribute("aria-selected") === "true");
    choose(lines[(now + step + lines.length) % lines.length]);
  };

  // The colour scheme: React owns it, its own button is pressed ------------------------------------------------
  const act = { theme: () => find("#theme-toggle")?.click(), "sign-out": () => find("[data-sign-out]")?.click() };

  document.addEventListener("click", (event) => {
    const on = (selector) => event.target.closest?.(selector);
    const copier = on("[data-copy], [data-copy-from]");
    if (copier) copy(copier);
    if (on("[data-open-palette]")) openPalette();
    const action = on("[data-act]");
    if (action) act[action.dataset.act]?.();
    if (on("#palette .command")) palette().close();
    if (on("[popover] a, .menu .item")) event.target.closest("[popover]").hidePopover?.();
    const opener = on("[data-open]");
    if (opener) find(opener.dataset.open)?.showModal();
    if (on("[data-close]")) event.target.closest("dialog")?.close();
    if (event.target.matches?.("dialog") && pressed === event.target) dismiss(event.target);
  });

  document.addEventListener("input", (event) => {
    if (event.target.id === "palette-input") filter();
  });

  document.addEventListener("keydown", (event) => {
    if ((event.metaKey || event.ctrlKey) && event.key.toLowerCase() === "k") {
      event.preventDefault();
      openPalette();
      return;
    }
    if (event.target.id !== "palette-input") return;
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) {
      event.preventDefault();
      movePalette(step);
    }
    if (event.key === "Enter") {
      event.preventDefault();
      palette().querySelector('li[aria-selected="true"] .command')?.click();
    }
  });

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", watch);
  else watch();
})();
