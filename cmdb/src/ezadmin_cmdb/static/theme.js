// Before the page is drawn: dark or light, as chosen or as the system says. (The security policy allows no script in the page.)
(() => {
  const root = document.documentElement;
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const apply = () => {
    const chosen = root.dataset.theme;
    root.dataset.bsTheme = chosen === "dark" || (chosen === "auto" && dark.matches) ? "dark" : "light";
  };
  apply();
  dark.addEventListener("change", apply);
  window.ezadminTheme = (chosen) => {
    root.dataset.theme = chosen;
    apply();
  };
})();
