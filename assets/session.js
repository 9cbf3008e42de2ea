// Signing up, in and out. Credentials go from the browser straight to our own API, never over the dashboard's socket;
// the session comes back as a cookie that no script can read.
(() => {
  const API = "/api/v1/auth";
  const EMAIL = /^[^\s@]+@[^\s@]+\.[^\s@]+$/;
  const find = (selector, root = document) => root.querySelector(selector);

  // Reading answers ----------------------------------------------------------------------------------------------
  const send = async (path, body) => {
    let response;
    try {
      response = await fetch(`${API}${path}`, {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify(body),
        credentials: "same-origin",
      });
    } catch {
      return { ok: false, text: "The server cannot be reached. Check your connection and try again." };
    }
    const answer = await response.json().catch(() => ({}));
    if (response.ok) return { ok: true, answer };
    return { ok: false, status: response.status, ...refusal(response, answer.detail) };
  };

  // The API's `detail` is a sentence, or a list of what is wrong with which field.
  const refusal = (response, detail) => {
    if (Array.isArray(detail)) {
      const fields = Object.fromEntries(detail.map((item) => [item.loc?.at(-1), item.msg]));
      return { fields, text: "Some of this cannot be used. Correct the marked fields." };
    }
    if (response.status === 429) {
      const seconds = Number(response.headers.get("Retry-After")) || 60;
      const wait = seconds > 90 ? `${Math.ceil(seconds / 60)} minutes` : `${seconds} seconds`;
      return { text: `That was too often. Wait ${wait}, then try again.` };
    }
    if (typeof detail === "string" && response.status < 500) return { text: detail };
    return { text: "The server could not do this. Try again in a moment." };
  };

  // Showing what is wrong ------------------------------------------------------------------------------------------
  const mark = (form, name, text) => {
    const input = form.elements[name];
    const place = find(`#${name}-error`, form);
    if (place) place.textContent = text;
    if (text) input?.setAttribute("aria-invalid", "true");
    else input?.removeAttribute("aria-invalid");
  };

  const complain = (form, text, tone = "bad") => {
    const place = find("[data-says]", form);
    place.textContent = text;
    place.hidden = !text;
    place.className = `message is-${tone}`;
  };

  const clear = (form) => {
    complain(form, "");
    for (const input of form.elements) if (input.name) mark(form, input.name, "");
  };

  // True, or what to do about it.
  const rules = {
    full_name: (value) => value.trim() !== "" || "Enter your name.",
    email: (value) => EMAIL.test(value.trim()) || "Enter an e-mail address, such as name@company.in.",
    password: (value, form) => {
      if (!value) return "Enter a password.";
      const bytes = new TextEncoder().encode(value).length;
      if (form.dataset.session === "sign-up" && value.length < 8) return "Use at least 8 characters.";
      return bytes <= 72 || "Use a shorter password: at most 72 characters.";
    },
    code: (value) => /^\d{6}$/.test(value) || "Enter the six digits from the mail.",
    accept_terms: (_, form) => form.elements.accept_terms.checked || "Accept the terms to continue.",
  };

  const isComplete = (form) => {
    clear(form);
    let first = null;
    for (const [name, rule] of Object.entries(rules)) {
      const input = form.elements[name];
      const result = input ? rule(input.value, form) : true;
      if (result !== true) {
        mark(form, name, result);
        first ??= input;
      }
    }
    first?.focus();
    return first === null;
  };

  const busy = (form, is) => {
    for (const button of form.querySelectorAll("button[type=submit]")) button.setAttribute("aria-busy", String(is));
    form.dataset.busy = is ? "1" : "";
  };

  // Moving on: a full load, because the socket's headers are those of the moment it was opened ---------------------
  const enter = () => {
    const next = new URLSearchParams(location.search).get("next") ?? "/";
    const target = new URL(next, location.origin);
    leave(target.origin === location.origin && target.pathname !== "/sign-in" ? target.href : "/");
  };

  const leave = (address) => {
    // The dashboard's values of the last session belong to a token in this storage; other tabs follow.
    sessionStorage.removeItem("token");
    localStorage.setItem("session-changed", String(Date.now()));
    location.assign(address);
  };

  addEventListener("storage", (event) => {
    if (event.key !== "session-changed") return;
    sessionStorage.removeItem("token");
    location.reload();
  });

  // Signing up: the form, then the code. The address outlives a reload, the password does not -----------------------
  const PENDING = "sign-up-address";
  const pending = () => sessionStorage.getItem(PENDING);

  const showCode = (file) => {
    find("[data-step=form]").hidden = true;
    find("[data-step=code]").hidden = false;
    find("[data-email]").textContent = pending();
    const place = find("[data-mail-file]");
    place.hidden = !file;
    find("code", place).textContent = file ?? "";
    const form = find("form[data-session=verify]");
    form.reset();
    clear(form);
    form.elements.code.focus();
  };

  const showForm = () => {
    sessionStorage.removeItem(PENDING);
    find("[data-step=code]").hidden = true;
    find("[data-step=form]").hidden = false;
    find("form[data-session=sign-up]").elements.email.focus();
  };

  const submit = {
    "sign-in": async (form) => {
      const result = await send("/login?session=cookie", {
        email: form.elements.email.value.trim(),
        password: form.elements.password.value,
      });
      if (result.ok) enter();
      if (result.status === 401) result.text = "This e-mail and password do not go together. Check both, and try again.";
      return result;
    },
    "sign-up": async (form) => {
      const { full_name, email, password, accept_terms } = form.elements;
      const result = await send("/register?session=cookie", {
        full_name: full_name.value.trim(),
        email: email.value.trim(),
        password: password.value,
        accept_terms: accept_terms.checked,
      });
      if (!result.ok) return result;
      sessionStorage.setItem(PENDING, result.answer.email ?? email.value.trim());
      password.value = "";
      showCode(result.answer.mail_file);
      return result;
    },
    verify: async (form) => {
      const { code } = form.elements;
      const result = await send("/register/verify?session=cookie", { email: pending(), code: code.value });
      if (result.ok) {
        sessionStorage.removeItem(PENDING);
        enter();
      } else {
        code.select();
      }
      return result;
    },
  };

  const resend = async (button) => {
    const form = find("form[data-session=verify]");
    button.disabled = true;
    const result = await send("/otp/send?session=cookie", { email: pending(), purpose: "register" });
    if (result.ok) showCode(result.answer.mail_file);
    complain(form, result.ok ? "A new code is on its way." : result.text, result.ok ? "good" : "bad");
    setTimeout(() => (button.disabled = false), 15_000);
  };

  const signOut = async () => {
    await send("/logout", {});
    leave("/sign-in");
  };

  document.addEventListener("submit", async (event) => {
    const form = event.target;
    const kind = form.dataset?.session;
    if (!kind) return;
    event.preventDefault();
    if (form.dataset.busy || !isComplete(form)) return;
    busy(form, true);
    const result = await submit[kind](form);
    if (result.ok && kind !== "sign-up") return;
    busy(form, false);
    if (result.ok) return;
    complain(form, result.text);
    for (const [name, text] of Object.entries(result.fields ?? {})) mark(form, name, text);
  });

  document.addEventListener("click", (event) => {
    const on = (selector) => event.target.closest?.(selector);
    const eye = on("[data-reveal]");
    if (eye) {
      const input = find(eye.dataset.reveal);
      const shown = input.type === "text";
      input.type = shown ? "password" : "text";
      eye.setAttribute("aria-pressed", String(!shown));
      input.focus();
    }
    if (on("[data-sign-out]")) signOut();
    const again = on("[data-resend]");
    if (again) resend(again);
    if (on("[data-other-address]")) showForm();
  });

  // A code may be pasted with spaces or a dash, and is sent as soon as it is whole.
  document.addEventListener("input", (event) => {
    const input = event.target;
    const form = input.form;
    if (!form?.dataset.session) return;
    mark(form, input.name, "");
    if (input.name !== "code") return;
    input.value = input.value.replace(/\D/g, "").slice(0, 6);
    if (input.value.length === 6) form.requestSubmit();
  });

  // Only when React has taken over the page may the page be changed: then the server's first values have arrived.
  const watch = new MutationObserver(() => {
    if (!find('[data-ready="true"]')) return;
    watch.disconnect();
    if (pending()) showCode(null);
  });
  watch.observe(document, { subtree: true, attributes: true, attributeFilter: ["data-ready"] });
})();
