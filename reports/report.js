"use strict";
// Starts the charts of a report: unpacks Bokeh and the figures, draws them in the reader's colours, and writes the values under
// the cursor into the legends of all lanes.
(() => {
  const by = (id) => document.getElementById(id);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");

  async function unpack(id) {
    const packed = Uint8Array.from(atob(by(id).textContent), (c) => c.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).text();
  }

  function tell(text) {
    by("notice").textContent = text;
    by("notice").hidden = false;
  }

  // -- words

  const two = (n) => String(n).padStart(2, "0");

  function elapsed(ms) {
    const tenths = Math.round(ms / 100);
    const s = Math.floor(tenths / 10);
    if (s >= 3600) return `${Math.floor(s / 3600)}:${two(Math.floor((s % 3600) / 60))}:${two(s % 60)}`;
    return `${two(Math.floor(s / 60))}:${two(s % 60)}.${tenths % 10}`;
  }

  const digits = (x) => (x >= 100 ? Math.round(x).toLocaleString("en") : Number(x.toPrecision(3)).toString());
  const units = {
    count: (x) => Math.round(x).toLocaleString("en"),
    rate: (x) => `${digits(x)}/s`,
    ms: (x) => (x >= 1000 ? `${digits(x / 1000)} s` : `${digits(x)} ms`),
    s: (x) => `${digits(x)} s`,
    percent: (x) => `${(x * 100).toFixed(x < 0.1 ? 1 : 0)} %`,
  };

  // -- values under the cursor

  function at(times, t, held) {
    let low = 0;
    let high = times.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (times[middle] <= t) low = middle + 1;
      else high = middle;
    }
    if (held || low === times.length) return low - 1;
    return low > 0 && t - times[low - 1] <= times[low] - t ? low - 1 : low;
  }

  function valueAt(source, t, unit, nearest) {
    const times = source.data.t;
    const held = unit === "percent" || unit === "count";
    const i = at(times, t, held);
    const near = i >= 0 && (held || Math.abs(times[i] - t) <= nearest);
    const value = near ? source.data.y[i] : NaN;
    return Number.isFinite(value) ? units[unit](value) : "–";
  }

  function readout(charts, model, t) {
    const names = (spans) => spans.filter(([, start, end]) => start <= t && t <= end).map(([name]) => name);
    const clock = new Date(charts.zero_unix_ms + t).toISOString().slice(11, 19);
    const words = [elapsed(t), `${clock} UTC`, ...names(charts.phases), ...names(charts.faults)];
    by("readout").textContent = words.join(" · ");
    for (const key of document.querySelectorAll(".key[data-curve]")) {
      const source = model.get_model_by_name(key.dataset.curve);
      key.lastElementChild.textContent = source ? valueAt(source, t, key.dataset.unit, charts.nearest_ms) : "";
    }
  }

  // -- drawing

  function coloured(charts) {
    if (!dark.matches) return charts.document;
    return charts.document.replace(/"(#[0-9a-f]{6})"/g, (whole, light) =>
      charts.twins[light] ? `"${charts.twins[light]}"` : whole,
    );
  }

  // Bokeh's canvas would keep a finger from scrolling the page, so on touch screens a layer of ours moves the cursor instead.
  function touchLayer(plot, charts, time, cursor) {
    const layer = document.createElement("div");
    layer.className = "touch";
    const point = (event) => {
      const box = layer.getBoundingClientRect();
      const [left, right] = charts.borders;
      const share = (event.clientX - box.left - left) / (box.width - left - right);
      cursor.visible = true;
      cursor.location = time.start + Math.min(Math.max(share, 0), 1) * (time.end - time.start);
    };
    layer.onpointerdown = point;
    layer.onpointermove = point;
    plot.append(layer);
  }

  async function draw(charts, seen) {
    for (const lane of Object.keys(charts.figures)) by(`lane-${lane}`).replaceChildren();
    const roots = Object.fromEntries(Object.entries(charts.figures).map(([lane, id]) => [id, `lane-${lane}`]));
    const item = { docid: "report", roots, root_ids: Object.keys(roots) };
    await Bokeh.embed.embed_items({ report: JSON.parse(coloured(charts)) }, [item]);
    const model = Bokeh.documents.at(-1);
    const time = model.get_model_by_name("time");
    const whole = { start: time.start, end: time.end };
    if (seen) time.setv(seen);
    const cursor = model.get_model_by_name("cursor");
    cursor.on_change(cursor.properties.location, () => {
      if (Number.isFinite(cursor.location)) readout(charts, model, cursor.location);
    });
    if (window.matchMedia("(pointer: coarse)").matches) {
      for (const lane of Object.keys(charts.figures)) touchLayer(by(`lane-${lane}`), charts, time, cursor);
    }
    const noteZoom = () => {
      by("reset").hidden = time.start === whole.start && time.end === whole.end;
    };
    time.on_change([time.properties.start, time.properties.end], noteZoom);
    noteZoom();
    const reset = () => time.setv(whole);
    by("reset").onclick = reset;
    by("timeline").ondblclick = reset;
    if (!model.is_idle) await new Promise((done) => model.idle.connect(done));
    document.documentElement.dataset.charts = dark.matches ? "dark" : "light";
    return () => ({ start: time.start, end: time.end });
  }

  async function start() {
    if (!("DecompressionStream" in window)) {
      tell("This browser is too old for the charts (it lacks DecompressionStream). Everything else on this page is complete.");
      return;
    }
    const charts = JSON.parse(await unpack("charts"));
    if (!Object.keys(charts.figures).length) return;
    const script = document.createElement("script");
    script.textContent = await unpack("bokeh");
    document.head.append(script);
    Bokeh.set_log_level("warn");
    let seen = await draw(charts, null);
    dark.addEventListener("change", async () => {
      seen = await draw(charts, seen());
    });
  }

  start().catch((error) => {
    tell(`The charts could not be drawn (${error.message}). Everything else on this page is complete.`);
    console.error(error);
  });
})();
