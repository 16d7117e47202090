// Keeps a page that the server rendered up to date, by asking for it again and swapping the sections that changed.
// Without this script the page is complete, and merely stands still.
"use strict";

(() => {
  const EVERY_MS = 3000;
  const LIVE = "[data-live]";
  const pulse = document.querySelector("[data-pulse]");

  function say(state, text) {
    if (!pulse) return;
    pulse.querySelector(".dot").className = `dot ${state}`;
    pulse.querySelector("span:last-child").textContent = text;
  }

  // What the reader opened or focused stays open and focused across a swap.
  function swap(old, fresh) {
    const focused = old.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
    const opened = [...old.querySelectorAll("details")].map((item) => item.open);
    fresh.querySelectorAll("details").forEach((item, index) => { item.open = opened[index] ?? false; });
    old.replaceChildren(...fresh.childNodes);
    if (focused) old.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
  }

  function differs(old, fresh) {
    const plain = (section) => {
      const copy = section.cloneNode(true);
      copy.querySelectorAll("details").forEach((item) => item.removeAttribute("open"));
      return copy.innerHTML;
    };
    return plain(old) !== plain(fresh);
  }

  async function refresh() {
    const answer = await fetch(location.href, { headers: { accept: "text/html" } });
    if (!answer.ok) throw new Error(`HTTP ${answer.status}`);
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const sections = [...page.querySelectorAll(LIVE)];
    if (sections.some((fresh) => !document.getElementById(fresh.id))) {
      swap(document.querySelector("main"), page.querySelector("main"));
      return;
    }
    for (const fresh of sections) {
      const old = document.getElementById(fresh.id);
      if (differs(old, fresh)) swap(old, fresh);
    }
  }

  async function keepFresh() {
    if (document.visibilityState === "visible") {
      try {
        await refresh();
        say("on", "Live");
      } catch (problem) {
        say("off", `Not answering (${problem.message})`);
      }
    }
    setTimeout(keepFresh, EVERY_MS);
  }

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    await navigator.clipboard.writeText(button.dataset.copy);
    button.textContent = "Copied";
  });

  if (document.querySelector(LIVE)) {
    say("on", "Live");
    setTimeout(keepFresh, EVERY_MS);
  }
})();
