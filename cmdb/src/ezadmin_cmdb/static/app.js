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
    const search = document.getElementById("find");
    if (event.key === "/" && search && !/^(input|textarea|select)$/i.test(document.activeElement.tagName)) {
      event.preventDefault();
      search.focus();
    }
  });

  // The box in the head: its list opens with what was typed, arrows walk through it, Enter goes there, Escape closes it.
  const find = document.getElementById("find");
  const list = document.getElementById("find-list");
  if (find && list) {
    let chosen = -1;
    const hits = () => [...list.querySelectorAll("a[role=option]")];
    const show = (open) => {
      list.hidden = !open;
      find.setAttribute("aria-expanded", String(open));
      if (!open) choose(-1);
    };
    const choose = (index) => {
      chosen = index;
      hits().forEach((hit, at) => hit.setAttribute("aria-selected", String(at === index)));
      const hit = hits()[index];
      if (hit) {
        find.setAttribute("aria-activedescendant", hit.id);
        hit.scrollIntoView({ block: "nearest" });
      } else {
        find.removeAttribute("aria-activedescendant");
      }
    };
    list.addEventListener("htmx:afterSwap", () => {
      chosen = -1;
      show(find.value.trim() !== "" && list.childElementCount > 0 && document.activeElement === find);
    });
    find.addEventListener("focus", () => show(find.value.trim() !== "" && list.childElementCount > 0));
    find.addEventListener("keydown", (event) => {
      const count = hits().length;
      if (event.key === "Escape" && !list.hidden) {
        event.preventDefault();
        show(false);
      } else if ((event.key === "ArrowDown" || event.key === "ArrowUp") && count > 0) {
        event.preventDefault();
        show(true);
        const step = event.key === "ArrowDown" ? 1 : -1;
        choose(chosen < 0 ? (step > 0 ? 0 : count - 1) : (chosen + step + count) % count);
      } else if (event.key === "Enter" && !list.hidden && chosen >= 0) {
        event.preventDefault();
        location.assign(hits()[chosen].href);
      }
    });
    document.addEventListener("click", (event) => {
      if (!event.target.closest(".find")) show(false);
    });
    find.closest("form").addEventListener("focusout", (event) => {
      if (event.relatedTarget && !find.closest("form").contains(event.relatedTarget)) show(false);
    });
  }

  // Up and down from unit to unit of a rack, drawn from the top; Tab alone goes over what is free in one step.
  document.addEventListener("keydown", (event) => {
    const step = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    const drawing = step && document.activeElement.closest?.(".elevation");
    if (!drawing) return;
    const cells = [...drawing.querySelectorAll("a")];
    const next = cells[cells.indexOf(document.activeElement) + step];
    if (next) {
      event.preventDefault();
      next.focus();
    }
  });

  // Rows that are chosen: all of a page at once, and how many there are.
  document.addEventListener("change", (event) => {
    const all = event.target.dataset.checkAll;
    if (all) {
      for (const box of document.querySelectorAll(`input[type="checkbox"][name="${all}"]`)) box.checked = event.target.checked;
    }
    const shown = document.querySelector("[data-chosen]");
    if (shown) {
      const count = document.querySelectorAll('input[form="bulk"][name="id"]:checked').length;
      shown.textContent = count ? `${shown.dataset.chosen} ${count}` : "";
    }
    // Who writes in a control of the form for many wants it to be set, or, where there may be several, added.
    const mode = event.target.closest("[data-tri]")?.querySelector("select[name^='mode.']");
    if (mode && mode !== event.target && mode.value === "") mode.selectedIndex = 1;
  });

  // Rows that unfold: what is in them is fetched the first time.
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-unfold]");
    const row = button && document.getElementById(button.getAttribute("aria-controls"));
    if (row) {
      row.hidden = !row.hidden;
      button.setAttribute("aria-expanded", String(!row.hidden));
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
