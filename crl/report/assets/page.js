"use strict";
// Draws the figures as they come near the screen, in the colours of the page, for the groups chosen.
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const plots = [...document.querySelectorAll(".plot")];
  const drawn = new Set();
  const coarse = matchMedia("(pointer: coarse)").matches;
  const chosen = {};   // section → set of groups
  for (const button of document.querySelectorAll(".groups button")) {
    const {section, all} = button.dataset;
    chosen[section] ??= new Set();
    if (all !== undefined) {
      button.addEventListener("click", () => {
        for (const one of chips(section)) choose(one, all === "true");
        redraw(section);
      });
      continue;
    }
    choose(button, button.getAttribute("aria-pressed") === "true");
    button.addEventListener("click", () => {
      choose(button, button.getAttribute("aria-pressed") !== "true");
      redraw(section);
    });
  }

  function chips(section) {
    return document.querySelectorAll(`.groups button[data-section="${section}"][data-group]`);
  }

  function colours() {
    const style = getComputedStyle(document.documentElement);
    return name => style.getPropertyValue("--" + name).trim();
  }

  function faint(hex, alpha) {
    const [r, g, b] = [1, 3, 5].map(i => parseInt(hex.slice(i, i + 2), 16));
    return `rgba(${r},${g},${b},${alpha})`;
  }

  function traces(figure, section, css) {
    const shown = figure.data.filter(
      t => t.meta.group === undefined || chosen[section].has(t.meta.group));
    return shown.map(t => {
      const {role, colour} = t.meta;
      if (role === "matrix") {
        return {...t, colorscale: [[0, css("low")], [.5, css("middle")], [1, css("high")]]};
      }
      const own = css("c" + colour);
      return role === "band"
        ? {...t, fillcolor: faint(own, .17), line: {...t.line, color: faint(own, 0)}}
        : {...t, line: {...t.line, color: own}, marker: {...t.marker, color: own}};
    });
  }

  function layout(figure, css) {
    const made = {
      ...figure.layout, autosize: true, dragmode: coarse ? false : "zoom",
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: {family: getComputedStyle(document.body).fontFamily, size: 12, color: css("ink")},
      hoverlabel: {bgcolor: css("panel"), bordercolor: css("rule"), align: "left",
                   namelength: innerWidth < 640 ? 22 : 60,
                   font: {color: css("ink"), size: 12.5}},
    };
    for (const [name, axis] of Object.entries(figure.layout)) {
      if (!/^[xy]axis/.test(name)) continue;
      made[name] = {...axis, gridcolor: css("grid"), linecolor: css("rule"),
                    tickfont: {color: css("muted"), size: 11.5},
                    title: {...axis.title, font: {color: css("muted"), size: 12}},
                    spikecolor: css("boundary"), spikethickness: 1, spikedash: "dot"};
      if (innerWidth < 640 && axis.nticks) made[name].nticks = 5;
    }
    made.shapes = figure.layout.shapes.map(s => ({
      ...s, fillcolor: s.name === "trained" ? css("shade") : "rgba(0,0,0,0)",
      line: {...s.line, color: css(s.name === "window" ? "ink" : "boundary")},
    }));
    return made;
  }

  function draw(plot) {
    const css = colours(), figure = figures[plot.id];
    drawn.add(plot);
    Plotly.react(plot, traces(figure, plot.dataset.section, css), layout(figure, css),
                 {responsive: true, displaylogo: false, displayModeBar: false,
                  scrollZoom: false, doubleClick: "reset"});
  }

  function choose(button, on) {
    const {section, group} = button.dataset;
    button.setAttribute("aria-pressed", String(on));
    chosen[section][on ? "add" : "delete"](Number(group));
    const box = document.getElementById(`matrix-${section}-${group}`).closest("figure");
    box.hidden = !on;
  }

  function redraw(section) {
    for (const plot of drawn) {
      if (plot.dataset.section === section && plot.dataset.group === undefined) draw(plot);
    }
  }

  const near = new IntersectionObserver(entries => {
    for (const entry of entries) {
      if (entry.isIntersecting) {
        near.unobserve(entry.target);
        draw(entry.target);
      }
    }
  }, {rootMargin: "500px"});
  for (const plot of plots) {
    plot.style.minHeight = figures[plot.id].layout.height + "px";  // so that nothing jumps
    near.observe(plot);
  }
  matchMedia("(prefers-color-scheme: dark)").addEventListener(
    "change", () => drawn.forEach(draw));
  addEventListener("beforeprint", () => plots.filter(p => !p.closest("[hidden]")).forEach(draw));
})();
