// Draws the figures, shows the terms' definitions and what has grown old. No library but Plotly, which a page loads
// only when a figure comes near the view; nothing is asked of another machine.
(() => {
  "use strict";

  const SELF = document.currentScript;

  const PHONE = 600; // px of figure width below which a figure is laid out for a phone

  // Okabe and Ito's palette, which keeps its hues apart for color-blind readers. Each hue is
  // darkened or lightened until a line of it reaches 3:1 on the page, and keeps its place, so that
  // "the orange line" is orange in both themes.
  const PALETTE = {
    light: ["#0072b2", "#d55e00", "#00795a", "#b0528a", "#9a6b00", "#2f7fb0", "#5a6068"],
    dark: ["#56b4e9", "#f08445", "#2fc498", "#e09cc5", "#e6c229", "#a6d8f5", "#b8bfc8"],
  };
  // The palette as published, which a notebook may name, at its place in the lists above.
  const PUBLISHED = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"];

  const theme = () => (document.documentElement.dataset.theme === "dark" ? "dark" : "light");
  const variable = (name) =>
    getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  // --- Figures --------------------------------------------------------------------------------

  function template(mode) {
    const ink = variable("--pst-color-text-base");
    const muted = variable("--pst-color-text-muted");
    const grid = variable("--mlk8s-grid");
    const line = variable("--mlk8s-axis");
    const axis = {
      automargin: true,
      color: muted,
      gridcolor: grid,
      linecolor: line,
      tickcolor: line,
      zerolinecolor: line,
      zeroline: false,
      showline: true,
      ticks: "outside",
      ticklen: 4,
      title: { font: { color: ink, size: 13 }, standoff: 8 },
    };
    const colorbar = { outlinewidth: 0, tickcolor: line, tickfont: { color: muted } };
    return {
      layout: {
        colorway: PALETTE[mode],
        font: { family: getComputedStyle(document.body).fontFamily, size: 13, color: ink },
        paper_bgcolor: "rgba(0,0,0,0)",
        plot_bgcolor: "rgba(0,0,0,0)",
        hoverlabel: {
          bgcolor: variable("--pst-color-on-background"),
          bordercolor: line,
          font: { color: ink },
          align: "left",
        },
        title: {
          font: { size: 16 }, x: 0, xanchor: "left", xref: "container",
          y: 1, yanchor: "top", yref: "container", pad: { t: 18 },
        },
        legend: { bgcolor: "rgba(0,0,0,0)", font: { color: ink } },
        xaxis: axis,
        yaxis: axis,
        coloraxis: { colorbar },
        colorscale: {
          sequential: "Cividis", // readable for all, and monotone in lightness
          sequentialminus: "Cividis",
        },
        annotationdefaults: { font: { color: ink }, arrowcolor: muted },
        shapedefaults: { line: { color: muted } },
      },
      data: { heatmap: [{ colorbar, colorscale: "Cividis" }] },
    };
  }

  // Gives a color that a notebook took from the palette its value in the theme; leaves others.
  function recolor(value, mode) {
    if (typeof value === "string") {
      const at = PUBLISHED.indexOf(value.toLowerCase());
      return at < 0 ? value : PALETTE[mode][at];
    }
    if (Array.isArray(value)) return value.map((item) => recolor(item, mode));
    if (value && typeof value === "object") {
      for (const key of Object.keys(value)) {
        if (key !== "meta") value[key] = recolor(value[key], mode);
      }
    }
    return value;
  }

  // Plotly writes a label inside a bar in grey or white; of black and white one has 4.5:1 always.
  function inkInside(traces, mode) {
    traces.forEach((trace, at) => {
      if (trace.type !== "bar" || trace.textposition !== "inside") return;
      const fill = trace.marker?.color ?? PALETTE[mode][at % PALETTE[mode].length];
      const [r, g, b] = [1, 3, 5].map((i) => {
        const v = parseInt(fill.slice(i, i + 2), 16) / 255;
        return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
      });
      const dark = 0.2126 * r + 0.7152 * g + 0.0722 * b < 0.179;
      trace.insidetextfont = { ...trace.insidetextfont, color: dark ? "#ffffff" : "#000000" };
    });
  }

  // Breaks a text at spaces into lines of at most `width` px; a Plotly text does not wrap itself.
  function wrap(text, width, size) {
    const limit = Math.max(12, Math.floor(width / (size * 0.54)));
    const lines = [];
    for (const part of text.split(/<br\s*\/?>/i)) {
      let line = "";
      for (const word of part.split(" ")) {
        if (line && line.length + 1 + word.length > limit) {
          lines.push(line);
          line = word;
        } else {
          line = line ? `${line} ${word}` : word;
        }
      }
      lines.push(line);
    }
    return lines;
  }

  function wrapTitle(holder, width, size) {
    if (typeof holder.title === "string") holder.title = { text: holder.title };
    if (!holder.title?.text) return 0;
    const lines = wrap(holder.title.text, width, size);
    holder.title.text = lines.join("<br>");
    return lines.length;
  }

  function layoutFor(figure, width) {
    const layout = figure.layout ?? {};
    const phone = width < PHONE;
    const mode = theme();
    const axes = Object.keys(layout).filter((key) => /^[xy]axis\d*$/.test(key));
    for (const key of ["xaxis", "yaxis"]) if (!axes.includes(key)) axes.push(key);

    delete layout.width;
    delete layout.paper_bgcolor;
    delete layout.plot_bgcolor;
    if (layout.font) delete layout.font.color;
    layout.template = template(mode);
    layout.autosize = false;
    layout.width = width;
    layout.height = Math.max(layout.height ?? 420, 340);
    const titleLines = wrapTitle(layout, width - 16, 16);
    const top = titleLines ? 20 + titleLines * 22 : 12;
    layout.margin = { l: 8, r: phone ? 10 : 24, t: top, b: 8, pad: 0 };
    layout.legend = { ...layout.legend };

    for (const key of axes) {
      const axis = (layout[key] = { ...layout[key], automargin: true });
      wrapTitle(axis, key[0] === "x" ? width * 0.8 : layout.height * 0.6, 13);
      // A finger on a figure scrolls the page; zooming belongs to a mouse.
      if (phone) axis.fixedrange = true;
      if (axis.type === "log") {
        // Whole numbers at each tick; Plotly's default writes the 2 and 5 of 20 and 50 alone.
        axis.tickformat ??= ",~r";
        axis.nticks ??= phone ? 3 : 5;
      }
    }
    const named = figure.data.filter((trace) => trace.name && trace.showlegend !== false);
    if (layout.showlegend !== false && named.length > 1) {
      if (phone) {
        layout.legend = {
          ...layout.legend, orientation: "h", xref: "container", yref: "container",
          x: 0.02, xanchor: "left", y: 0, yanchor: "bottom", entrywidthmode: "pixels",
        };
        layout.height += 24 * Math.min(named.length, 6);
      } else if (layout.legend.x === undefined && layout.legend.y === undefined) {
        layout.legend = { ...layout.legend, orientation: "h", x: 0, y: 1.02, yanchor: "bottom" };
        layout.margin.t += 26;
      }
    }
    if (phone) {
      layout.dragmode = false;
      for (const note of layout.annotations ?? []) {
        note.font = { ...note.font, size: Math.min(note.font?.size ?? 12, 11) };
        if (typeof note.text === "string") note.text = wrap(note.text, width * 0.5, 11).join("<br>");
      }
    }
    return layout;
  }

  let plotly = null;

  // Plotly is five times as heavy as all the rest of a page, so it waits for the first figure.
  function loadPlotly() {
    plotly ??= new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = new URL(SELF.dataset.plotly, SELF.src).href;
      script.addEventListener("load", () => resolve(window.Plotly));
      script.addEventListener("error", () => {
        plotly = null; // the next figure tries again
        script.remove();
        reject(new Error(`${script.src} cannot be loaded`));
      });
      document.head.append(script);
    });
    return plotly;
  }

  function prepare(box, width) {
    const figure = JSON.parse(box.parentElement.querySelector("script").textContent);
    const mode = theme();
    recolor(figure, mode); // before the template comes in, whose colors are the theme's already
    inkInside(figure.data, mode);
    return { data: figure.data, layout: layoutFor(figure, width), mode };
  }

  async function draw(box) {
    box.dataset.drawn = "false";
    let Plotly;
    try {
      Plotly = await loadPlotly();
    } catch (error) {
      box.textContent = `This figure cannot be drawn: ${error.message}. It shows: ${box.ariaLabel}`;
      return;
    }
    if (!box.dataset.drawnWidth) box.textContent = "";
    const width = Math.floor(box.clientWidth);
    if (!width) return; // inside something closed; the size observer calls again when it opens
    const { data, layout, mode } = prepare(box, width);
    const phone = width < PHONE;
    await Plotly.react(box, data, layout, {
      displaylogo: false,
      displayModeBar: phone ? false : "hover",
      modeBarButtonsToRemove: [
        "zoom2d", "pan2d", "select2d", "lasso2d", "zoomIn2d", "zoomOut2d", "autoScale2d",
      ],
      scrollZoom: false,
      doubleClick: "reset",
    });
    // The box has the text; the tick labels one by one say nothing to a screen reader.
    for (const svg of box.querySelectorAll("svg.main-svg")) svg.setAttribute("aria-hidden", "true");
    box.dataset.drawn = "true";
    box.dataset.drawnTheme = mode;
    box.dataset.drawnWidth = String(width);
  }

  const boxes = () => [...document.querySelectorAll(".mlk8s-plot")];

  function startFigures() {
    if (!boxes().length) return;
    const wanted = (box) => box.dataset.drawn !== undefined;
    const near = new IntersectionObserver(
      (entries) => {
        for (const { target, isIntersecting } of entries) {
          if (isIntersecting && target.clientWidth && target.dataset.drawn !== "true") draw(target);
        }
      },
      { rootMargin: "400px 0px" },
    );
    const sizes = new ResizeObserver((entries) => {
      for (const { target } of entries) {
        const width = Math.floor(target.clientWidth);
        // Drawing changes the height; only the width matters, or the observer would call itself.
        if (!width || target.dataset.askedWidth === String(width)) continue;
        target.dataset.askedWidth = String(width);
        requestAnimationFrame(() => {
          // The height that the figure will have, so that the text below never jumps.
          target.style.minHeight = `${prepare(target, width).layout.height}px`;
          if (wanted(target) && target.dataset.drawnWidth !== String(width)) draw(target);
        });
      }
    });
    for (const box of boxes()) {
      sizes.observe(box);
      near.observe(box);
    }
    new MutationObserver(() => boxes().filter(wanted).forEach(draw)).observe(
      document.documentElement,
      { attributes: true, attributeFilter: ["data-theme"] },
    );
    const missing = (box) => box.dataset.drawn !== "true";
    window.addEventListener("beforeprint", () => boxes().filter(missing).forEach(draw));
  }

  // Draws every figure of the document now; the PDF and the tests do not scroll to each.
  window.mlk8sDrawAll = () => Promise.all(boxes().map(draw));

  // --- What only a browser knows about access ---------------------------------------------------

  function startAccess() {
    // A box that scrolls can be focused, so that the arrow keys reach its hidden part.
    const sizes = new ResizeObserver((entries) => {
      for (const { target } of entries) {
        if (target.scrollWidth > target.clientWidth) {
          const name = target.querySelector("caption")?.textContent.trim();
          target.tabIndex = 0;
          target.setAttribute("role", "group");
          target.setAttribute("aria-label", name || "Scrolls sideways");
        } else {
          for (const name of ["tabindex", "role", "aria-label"]) target.removeAttribute(name);
        }
      }
    });
    for (const box of document.querySelectorAll(".mlk8s-table, .mlk8s-equation")) {
      sizes.observe(box);
    }
    // The theme's names of these buttons leave out words that stand on them, and speech control
    // goes by what is seen.
    document.querySelectorAll(".theme-switch[title]").forEach((i) => i.removeAttribute("title"));
    document
      .querySelectorAll(".search-button-field")
      .forEach((button) => button.removeAttribute("aria-label"));
  }

  // --- Terms ----------------------------------------------------------------------------------

  function startTerms() {
    const links = [...document.querySelectorAll("a.reference[title]")].filter((link) =>
      link.querySelector(".std-term"),
    );
    if (!links.length) return;
    const tip = document.createElement("div");
    tip.className = "mlk8s-tip";
    tip.id = "mlk8s-tip";
    tip.setAttribute("role", "tooltip");
    tip.hidden = true;
    document.body.append(tip);
    let shown = null;
    let timer = 0;

    const hide = () => {
      clearTimeout(timer);
      shown?.removeAttribute("aria-describedby");
      shown = null;
      tip.hidden = true;
    };
    const hideSoon = () => {
      clearTimeout(timer);
      timer = setTimeout(hide, 200); // time to move the pointer onto the definition itself
    };
    const show = (link) => {
      clearTimeout(timer);
      if (shown && shown !== link) shown.removeAttribute("aria-describedby");
      shown = link;
      tip.textContent = link.dataset.definition;
      tip.hidden = false;
      link.setAttribute("aria-describedby", tip.id);
      const edge = 16;
      const anchor = link.getClientRects()[0]; // the first line, where a link is broken in two
      const size = tip.getBoundingClientRect();
      const right = document.documentElement.clientWidth - size.width - edge;
      const left = Math.max(edge, Math.min(anchor.left, right));
      const above = anchor.top - size.height - 8;
      const top = above > edge ? above : link.getBoundingClientRect().bottom + 8;
      tip.style.left = `${left + window.scrollX}px`;
      tip.style.top = `${top + window.scrollY}px`;
    };

    for (const link of links) {
      // The browser's own tooltip would lie over ours, and knows neither keyboard nor touch.
      link.dataset.definition = link.title;
      link.removeAttribute("title");
      let touched = false;
      link.addEventListener("pointerdown", (event) => {
        touched = event.pointerType === "touch" && shown !== link;
      });
      link.addEventListener("click", (event) => {
        // The first tap shows the definition, the second follows the link.
        if (touched) event.preventDefault();
        touched = false;
      });
      link.addEventListener("pointerenter", (event) => {
        if (event.pointerType !== "touch") show(link);
      });
      link.addEventListener("pointerup", (event) => {
        if (event.pointerType === "touch") show(link);
      });
      link.addEventListener("pointerleave", (event) => {
        if (event.pointerType !== "touch") hideSoon();
      });
      link.addEventListener("focus", () => show(link));
      link.addEventListener("blur", hideSoon);
    }
    tip.addEventListener("pointerenter", () => clearTimeout(timer));
    tip.addEventListener("pointerleave", hideSoon);
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape") hide();
    });
    document.addEventListener("pointerdown", (event) => {
      if (shown && !tip.contains(event.target) && !shown.contains(event.target)) hide();
    });
  }

  // --- Ages -----------------------------------------------------------------------------------

  // A page names what it shows with the last day of each fact; the reader's clock decides.
  function startAges() {
    const today = new Date().toISOString().slice(0, 10);
    for (const note of document.querySelectorAll(".mlk8s-age")) {
      for (const item of note.querySelectorAll("[data-due]")) {
        if (item.dataset.due < today) item.hidden = note.hidden = false;
      }
    }
  }

  startFigures();
  startAccess();
  startTerms();
  startAges();
})();
