// Contrast of all visible text under an element, as WCAG 2 computes it: for each text node the
// color it has against the grounds behind it, the translucent ones blended. Returns what is below
// the minimum. Evaluated by test_site.py in the page.
([root, minimum]) => {
  // A canvas reads every CSS color notation, and gives back bytes.
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 1;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const known = new Map();
  const rgba = (text) => {
    if (!known.has(text)) {
      context.clearRect(0, 0, 1, 1);
      context.fillStyle = text;
      context.fillRect(0, 0, 1, 1);
      const [r, g, b, a] = context.getImageData(0, 0, 1, 1).data;
      known.set(text, [r, g, b, a / 255]);
    }
    return known.get(text);
  };
  const over = (top, under) => top.slice(0, 3).map((c, i) => c * top[3] + under[i] * (1 - top[3]));
  const luminance = (color) => {
    const [r, g, b] = color.map((c) => {
      const v = c / 255;
      return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    const layers = [];
    for (let at = element; at; at = at.parentElement) {
      layers.push(rgba(getComputedStyle(at).backgroundColor));
    }
    // A label inside a bar of a figure has the bar behind it.
    const bar = element.matches(".bartext-inside") && element.parentElement.querySelector("path");
    if (bar) {
      const { fill, fillOpacity, opacity } = getComputedStyle(bar);
      const [r, g, b, a] = rgba(fill);
      layers.unshift([r, g, b, a * fillOpacity * opacity]);
    }
    return layers.reduceRight((under, layer) => over(layer, under), [255, 255, 255]);
  };

  const low = [];
  let count = 0;
  const walker = document.createTreeWalker(document.querySelector(root), NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || element.closest("script, style, noscript")) continue;
    if (!element.checkVisibility({ checkOpacity: true, checkVisibilityCSS: true })) continue;
    const style = getComputedStyle(element);
    const ink = rgba(element.closest("svg") ? style.fill : style.color);
    const behind = ground(element);
    const pair = [luminance(over(ink, behind)), luminance(behind)].sort((a, b) => b - a);
    const ratio = (pair[0] + 0.05) / (pair[1] + 0.05);
    count += 1;
    if (ratio < minimum) {
      const text = walker.currentNode.data.trim().slice(0, 30);
      low.push(`${ratio.toFixed(2)} <${element.tagName} class="${element.getAttribute("class")}"> ${text}`);
    }
  }
  return { count, low: [...new Set(low)] };
}
