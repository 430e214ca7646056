// Choices that the browser keeps (appearance, time zone), and small comforts. Pages work without.
(() => {
  const year = 365 * 24 * 3600;
  const secure = location.protocol === "https:" ? "; Secure" : "";
  const keep = (name, value) => {
    document.cookie = `${name}=${encodeURIComponent(value)}; Path=/; Max-Age=${year}; SameSite=Lax${secure}`;
  };

  keep("tz", Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC");

  for (const button of document.querySelectorAll("[data-set-theme]")) {
    button.addEventListener("click", () => {
      keep("theme", button.dataset.setTheme);
      window.ezadminTheme(button.dataset.setTheme);
      for (const other of document.querySelectorAll("[data-set-theme]")) {
        other.classList.toggle("active", other === button);
        other.setAttribute("aria-pressed", String(other === button));
      }
    });
  }

  document.addEventListener("keydown", (event) => {
    const search = document.getElementById("q");
    if (event.key === "/" && search && !/^(input|textarea|select)$/i.test(document.activeElement.tagName)) {
      event.preventDefault();
      search.focus();
    }
  });

  // What renews itself must not close what the reader has opened, and need not be fetched while nobody looks.
  document.addEventListener("htmx:beforeRequest", (event) => {
    const timer = (event.detail.elt.getAttribute("hx-trigger") || "").startsWith("every");
    if (timer && (document.hidden || document.getSelection().toString())) event.preventDefault();
  });
  let open = [];
  document.addEventListener("htmx:beforeSwap", (event) => {
    open = [...event.detail.target.querySelectorAll("details[open][id]")].map((details) => details.id);
  });
  document.addEventListener("htmx:afterSwap", () => {
    for (const id of open) document.getElementById(id)?.setAttribute("open", "");
  });
})();
