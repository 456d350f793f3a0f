"use strict";
// Starts the charts of a history page: unpacks Bokeh and the figures, and draws them in the reader's colours.
(async () => {
  const by = (id) => document.getElementById(id);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");

  async function unpack(id) {
    const packed = Uint8Array.from(atob(by(id).textContent), (c) => c.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).text();
  }

  function run(text) {
    const script = document.createElement("script");
    script.textContent = text;
    document.head.append(script);
  }

  const charts = JSON.parse(await unpack("charts"));
  if (!Object.keys(charts.figures).length) return;
  run(await unpack("bokeh"));
  const coloured = () =>
    dark.matches ? charts.document.replace(/"(#[0-9a-f]{6})"/g, (whole, light) => (charts.twins[light] ? `"${charts.twins[light]}"` : whole)) : charts.document;
  async function draw() {
    for (const key of Object.keys(charts.figures)) by(key).replaceChildren();
    const items = [{ docid: "d", roots: Object.fromEntries(Object.entries(charts.figures).map(([key, id]) => [id, key])) }];
    await window.Bokeh.embed.embed_items({ d: JSON.parse(coloured()) }, items.map((item) => ({ ...item, root_ids: Object.values(charts.figures) })));
  }
  dark.addEventListener("change", draw);
  await draw();
})();
