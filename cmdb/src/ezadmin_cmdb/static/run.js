// The page of a command: what becomes of it is told by the gateway's WebSocket; where that cannot be reached, the page asks.
(() => {
  "use strict";
  const matrix = () => document.getElementById("matrix");
  const place = document.querySelector("[data-run-socket]");
  if (!place) return;
  const NOT_SIGNED_IN = 4401;
  let live = false; // whether the socket tells
  let told = 0; // what it has told
  let asked = 0; // how much of that was known when the page was asked for what it shows
  let drawn = 0;
  let wait = 5_000;

  document.addEventListener("htmx:beforeRequest", (event) => {
    // Only the clock has no event; it goes on while there is something that could not be shown at once.
    if (event.detail.elt.id === "matrix" && live && drawn === told && !event.detail.requestConfig.triggeringEvent) event.preventDefault();
  });
  document.addEventListener("htmx:beforeSend", (event) => {
    if (event.detail.elt.id === "matrix") asked = told;
  });
  document.addEventListener("htmx:afterSwap", () => {
    drawn = asked;
  });

  const connect = () => {
    if (!matrix()?.hasAttribute("hx-get")) return; // all has ended
    const socket = new WebSocket(place.dataset.runSocket);
    socket.addEventListener("open", () => socket.send(JSON.stringify({ subscribe: "run", id: place.dataset.run })));
    socket.addEventListener("message", (event) => {
      if (!JSON.parse(event.data).commands) return;
      live = true;
      wait = 5_000;
      told += 1;
      if (matrix()?.hasAttribute("hx-get")) htmx.trigger(matrix(), "told");
      else socket.close();
    });
    socket.addEventListener("close", (event) => {
      live = false;
      if (event.code === NOT_SIGNED_IN) return;
      setTimeout(connect, wait);
      wait = Math.min(wait * 2, 60_000);
    });
  };
  connect();
})();
