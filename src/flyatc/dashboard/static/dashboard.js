// Renews the parts of a page that have changed, as the server sends them: <body data-live="ADDRESS">. All else works
// without scripts.
"use strict";
(function () {
  const state = document.getElementById("live-state");
  const tell = (text) => { state.hidden = !text; state.textContent = text; };
  const busy = (part) => {
    const active = document.activeElement;
    return active && part.contains(active) && /^(INPUT|TEXTAREA|SELECT)$/.test(active.tagName);
  };
  let source = null;
  const open = () => {
    const address = document.body.dataset.live;
    if (!address || source) return;
    source = new EventSource(address);
    source.onopen = () => tell("live");
    source.onmessage = (event) => {
      const found = JSON.parse(event.data);
      const part = document.getElementById(found.id);
      const made = document.createElement("template");
      made.innerHTML = found.html;
      if (!part || busy(part) || part.innerHTML === made.innerHTML) return;
      const opened = [...part.querySelectorAll("details[open][id]")].map((one) => one.id);
      const inner = () => [...part.querySelectorAll("a, button, summary")];
      const focused = inner().indexOf(document.activeElement);
      part.replaceChildren(made.content);
      for (const id of opened) document.getElementById(id)?.setAttribute("open", "");
      if (focused >= 0) inner()[focused]?.focus({ preventScroll: true });
      part.dispatchEvent(new CustomEvent("renewed", { bubbles: true }));
    };
    source.addEventListener("end", () => { source.close(); source = null; location.reload(); });
    source.onerror = () => {
      if (source.readyState === EventSource.CLOSED) { tell("not live: reload the page"); source = null; }
      else tell("connecting …");
    };
  };
  const close = () => { if (source) { source.close(); source = null; } };
  // a phone in a pocket keeps no machine awake
  document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
  addEventListener("pagehide", close);
  addEventListener("pageshow", open);
  // a form is sent once
  document.addEventListener("submit", (event) => {
    if (event.target.dataset.sent) { event.preventDefault(); return; }
    event.target.dataset.sent = "yes";
    setTimeout(() => { delete event.target.dataset.sent; }, 4000);
  });
  const tab = document.querySelector(".tabs [aria-current]");
  if (tab) tab.parentElement.scrollLeft = tab.offsetLeft - (tab.parentElement.clientWidth - tab.offsetWidth) / 2;
})();
