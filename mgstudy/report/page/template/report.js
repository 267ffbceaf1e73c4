"use strict";
(() => {
  const plots = JSON.parse(document.getElementById("plots").textContent);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const still = window.matchMedia("(prefers-reduced-motion: reduce)");
  const value = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const dressed = (layout) => {
    const lines = { gridcolor: value("--line"), linecolor: value("--quiet"), tickcolor: value("--line") };
    return {
      ...layout,
      font: { family: value("--sans"), size: 12, color: value("--ink") },
      hoverlabel: { bgcolor: value("--raised"), bordercolor: value("--line"), font: { color: value("--ink") } },
      xaxis: { ...layout.xaxis, ...lines },
      yaxis: { ...layout.yaxis, ...lines },
      shapes: (layout.shapes || []).map((shape) => ({ ...shape, line: { ...shape.line, color: value("--quiet") } })),
    };
  };
  const options = { responsive: true, displaylogo: false, modeBarButtons: [["zoom2d", "resetScale2d", "toImage"]] };
  document.documentElement.classList.add("drawn");
  for (const [name, plot] of Object.entries(plots)) {
    Plotly.newPlot(`plot-${name}`, plot.data, dressed(plot.layout), options);
  }
  const dress = () => {
    for (const [name, plot] of Object.entries(plots)) {
      Plotly.react(`plot-${name}`, plot.data, dressed(plot.layout), options);
    }
  };
  dark.addEventListener("change", dress);
  window.addEventListener("beforeprint", () => {
    for (const details of document.querySelectorAll("details")) details.open = true;
  });
  if (still.matches) document.documentElement.style.scrollBehavior = "auto";
})();
