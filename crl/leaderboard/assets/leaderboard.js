"use strict";
// Sorts and filters the table, opens an entry's tasks, chooses the lines of the profiles.
(() => {
  const body = document.querySelector(".board tbody");
  const rows = [...body.querySelectorAll("tr[data-entry]")];
  const detail = row => document.getElementById("tasks-" + row.dataset.entry);
  const headings = [...document.querySelectorAll(".board thead button")];
  const chips = [...document.querySelectorAll(".groups button")];
  const filter = document.getElementById("filter");

  function value(row, column) {
    const text = row.querySelectorAll("[data-value]")[column].dataset.value;
    return text === "" ? NaN : Number(text);
  }

  function sort(button) {
    const heading = button.closest("th");
    const best = button.dataset.better > 0 ? "descending" : "ascending";
    const other = best === "descending" ? "ascending" : "descending";
    const order = heading.getAttribute("aria-sort") === best ? other : best;
    for (const one of headings) one.closest("th").removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", order);
    const column = headings.indexOf(button), sign = order === "descending" ? -1 : 1;
    const ordered = rows.map(row => [row, value(row, column)]).sort(([a, x], [b, y]) =>
      isNaN(x) - isNaN(y) || sign * (x - y) || a.dataset.entry - b.dataset.entry);
    body.append(...ordered.flatMap(([row]) => [row, detail(row)]));
  }

  function open(row, wanted) {
    row.querySelector("[aria-expanded]").setAttribute("aria-expanded", String(wanted));
    detail(row).hidden = row.hidden || !wanted;
  }

  function isOpen(row) {
    return row.querySelector("[aria-expanded]").getAttribute("aria-expanded") === "true";
  }

  function draw(entry) {
    const shown = chips[entry].getAttribute("aria-pressed") === "true" && !chips[entry].hidden;
    document.querySelector(`.chart.tall [data-entry="${entry}"]`).toggleAttribute("hidden", !shown);
  }

  function choose() {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of rows) {
      const name = row.querySelector(".name").textContent.toLowerCase();
      row.hidden = !words.every(word => name.includes(word));
      chips[row.dataset.entry].hidden = row.hidden;
      open(row, isOpen(row));
      draw(row.dataset.entry);
    }
    const left = rows.filter(row => !row.hidden).length;
    document.getElementById("count").textContent =
      left === rows.length ? "" : `${left} of ${rows.length}`;
  }

  for (const button of headings) button.addEventListener("click", () => sort(button));
  for (const row of rows) {
    row.querySelector("[aria-expanded]").addEventListener("click", () => open(row, !isOpen(row)));
  }
  for (const chip of chips) {
    chip.addEventListener("click", () => {
      chip.setAttribute("aria-pressed", String(chip.getAttribute("aria-pressed") !== "true"));
      draw(chip.dataset.entry);
    });
  }
  filter.addEventListener("input", choose);
  choose();  // a browser may have kept what was typed
})();
