
"use strict";
(() => {
  const PAGE = 48;
  const byId = (id) => document.getElementById(id);
  const cards = [...document.querySelectorAll(".card")];
  const grid = byId("grid"), found = byId("found"), more = byId("more"), nothing = byId("nothing");
  const large = byId("large"), largeStack = byId("large-stack");
  let visible = cards, room = PAGE, shown = null;
  document.documentElement.classList.add("js");

  // --- from image over heatmap to mask -------------------------------------------------------
  function setView(slider) {
    const value = Number(slider.value), last = Number(slider.max);
    const target = slider.id === "view" ? grid : largeStack;
    const mask = Math.max(0, Math.min(1, value - (last - 1)));
    target.style.setProperty("--heatmap", String(Math.min(1, value)));
    target.style.setProperty("--mask", String(mask));
    const stops = [...slider.parentElement.querySelectorAll("[data-view]")];
    let here = "";
    for (const stop of stops) {
      const near = Math.abs(Number(stop.dataset.view) - value) < 0.5;
      stop.classList.toggle("here", near);
      if (near) here = stop.textContent;
    }
    slider.setAttribute("aria-valuetext", here || "between two pictures");
  }
  for (const slider of document.querySelectorAll(".view")) {
    slider.addEventListener("input", () => setView(slider));
    for (const stop of slider.parentElement.querySelectorAll("[data-view]")) {
      stop.addEventListener("click", () => { slider.value = stop.dataset.view; setView(slider); });
    }
    setView(slider);
  }

  // --- which samples, in which order ---------------------------------------------------------
  const number = (card, name) => Number(card.dataset[name]);
  const byKey = (a, b) => (a.dataset.key < b.dataset.key ? -1 : 1);
  const orders = {
    class: null,
    best: (a, b) => number(b, "score") - number(a, "score") || byKey(a, b),
    worst: (a, b) => number(a, "score") - number(b, "score") || byKey(a, b),
    large: (a, b) => number(b, "area") - number(a, "area") || byKey(a, b),
    small: (a, b) => number(a, "area") - number(b, "area") || byKey(a, b),
    key: byKey,
  };
  function limit(id, otherwise) {
    const value = byId(id).valueAsNumber;
    return Number.isNaN(value) ? otherwise : value;
  }
  function select() {
    const wanted = byId("class").value, low = limit("low", 0), high = limit("high", 1);
    const words = byId("words").value.toLowerCase().split(/\s+/).filter(Boolean);
    const order = orders[byId("order").value];
    visible = cards.filter((card) => {
      const score = number(card, "score");
      if (wanted && !card.dataset.classes.split(" ").includes(wanted)) return false;
      if (score < low || score > high) return false;
      if (!words.length) return true;
      const prompt = card.querySelector(".prompt").textContent.toLowerCase();
      return words.every((word) => prompt.includes(word));
    });
    if (order) visible.sort(order);
    room = PAGE;
    grid.append(...visible);
    show();
  }
  function show() {
    for (const card of cards) card.hidden = true;
    for (const card of visible.slice(0, room)) card.hidden = false;
    const left = visible.length - room;
    found.textContent = `${visible.length} of ${cards.length} samples`;
    more.hidden = left <= 0;
    more.textContent = `Show ${Math.min(left, PAGE)} more (${left} left)`;
    nothing.hidden = visible.length > 0;
  }
  const filters = byId("filters");
  // a narrow window shows the pictures first
  byId("choose").open = matchMedia("(min-width: 641px)").matches;
  filters.addEventListener("input", select);
  filters.addEventListener("submit", (event) => event.preventDefault());
  filters.addEventListener("reset", () => setTimeout(select));
  byId("again").addEventListener("click", () => filters.reset());
  more.addEventListener("click", () => {
    const first = visible[room];
    room += PAGE;
    show();
    first.querySelector(".zoom").focus();
  });

  // --- one sample, large ---------------------------------------------------------------------
  function open(card) {
    shown = card;
    largeStack.replaceChildren(...[...card.querySelectorAll("img")].map((image) => image.cloneNode()));
    const parts = [".targets", ".prompt", ".meta"].map((name) => card.querySelector(name).cloneNode(true));
    byId("large-words").replaceChildren(...parts);
    byId("large-title").textContent = `Sample ${card.dataset.key}`;
    byId("previous").disabled = visible.indexOf(card) === 0;
    byId("next").disabled = visible.indexOf(card) === visible.length - 1;
    if (!large.open) {
      const slider = byId("large-view");
      slider.value = byId("view").value;
      setView(slider);
      large.showModal();
    }
  }
  function step(by) {
    const next = visible[visible.indexOf(shown) + by];
    if (next) open(next);
  }
  for (const card of cards) card.querySelector(".zoom").addEventListener("click", () => open(card));
  byId("previous").addEventListener("click", () => step(-1));
  byId("next").addEventListener("click", () => step(1));
  byId("close").addEventListener("click", () => large.close());
  large.addEventListener("click", (event) => { if (event.target === large) large.close(); });
  large.addEventListener("close", () => {
    const index = visible.indexOf(shown);
    if (index >= room) { room = index + 1; show(); }
    shown.querySelector(".zoom").focus();
  });

  select();
})();
