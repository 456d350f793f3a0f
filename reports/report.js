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

  const clamp = (x, low, high) => Math.min(Math.max(x, low), high);
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

  const MOST_TOLD = 3; // happenings at one place of the cursor

  function told(charts, time, t) {
    const near = 0.006 * (time.end - time.start);
    const texts = charts.marks.filter(([at]) => Math.abs(at - t) <= near).map(([, text]) => text);
    const left = texts.length - MOST_TOLD;
    return left > 0 ? [...texts.slice(0, MOST_TOLD), `${left} more`] : texts;
  }

  function readout(charts, model, time, t) {
    const names = (spans) => spans.filter(([, start, end]) => start <= t && t <= end).map(([name]) => name);
    const clock = new Date(charts.zero_unix_ms + t).toISOString().slice(11, 19);
    const place = [elapsed(t), `${clock} UTC`, ...names(charts.phases), ...names(charts.faults)].join(" · ");
    const here = told(charts, time, t).join("; ");
    by("readout").textContent = here ? `${place} · ${here}` : place;
    by("scrub").value = t;
    by("scrub").setAttribute("aria-valuetext", by("readout").textContent);
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

  // -- by key and by button

  function steer(charts, time, whole, cursor) {
    const scrub = by("scrub");
    const here = () => (Number.isFinite(cursor.location) ? cursor.location : (time.start + time.end) / 2);
    const go = (t) => {
      cursor.visible = true;
      cursor.location = clamp(t, whole.start, whole.end);
    };
    const show = (start, end) => {
      const width = clamp(end - start, 2000, whole.end - whole.start);
      const left = clamp((start + end - width) / 2, whole.start, whole.end - width);
      time.setv({ start: left, end: left + width });
    };
    const zoom = (factor) => {
      const half = ((time.end - time.start) * factor) / 2;
      show(here() - half, here() + half);
    };
    const jump = (way) => {
      const t = here();
      const ahead = charts.marks.filter(([at, , stop]) => stop && (way > 0 ? at > t + 1 : at < t - 1));
      if (!ahead.length) return;
      const next = way > 0 ? ahead[0][0] : ahead.at(-1)[0];
      const half = (time.end - time.start) / 2;
      if (next < time.start || next > time.end) show(next - half, next + half);
      go(next);
    };
    const reset = () => time.setv(whole);
    const bounds = () => {
      const width = time.end - time.start;
      Object.assign(scrub, { min: time.start, max: time.end, step: Math.max(50, Math.round(width / 400)) });
      by("reset").hidden = time.start === whole.start && time.end === whole.end;
    };
    const keys = { n: () => jump(1), p: () => jump(-1), "+": () => zoom(0.5), "=": () => zoom(0.5), "-": () => zoom(2), 0: reset };
    time.on_change([time.properties.start, time.properties.end], bounds);
    bounds();
    scrub.oninput = () => go(Number(scrub.value));
    scrub.onkeydown = (event) => {
      if (!(event.key in keys) || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      keys[event.key]();
    };
    by("next").onclick = keys.n;
    by("previous").onclick = keys.p;
    by("closer").onclick = keys["+"];
    by("wider").onclick = keys["-"];
    by("reset").onclick = reset;
    by("timeline").ondblclick = (event) => {
      if (!event.target.closest("button, summary, input, #chosen")) reset();
    };
    for (const part of document.querySelectorAll(".steer")) part.hidden = false;
    return { go, show };
  }

  // -- anomalies

  function chooser(charts, steering) {
    const panel = by("chosen");
    return (number, from) => {
      const { at, window: fault, told: headline, facts } = charts.anomalies[number];
      by("chosen-told").textContent = headline;
      by("chosen-link").href = `#anomaly-${number}`;
      by("chosen-facts").replaceChildren(
        ...facts.map(([label, text]) => {
          const row = document.createElement("div");
          for (const [tag, words] of [["dt", label], ["dd", text]]) {
            row.append(Object.assign(document.createElement(tag), { textContent: words }));
          }
          return row;
        }),
      );
      panel.hidden = false;
      by("chosen-close").onclick = () => {
        panel.hidden = true;
        from?.focus();
      };
      if (at !== null) {
        const [left, right] = [Math.min(at, fault?.[0] ?? at), Math.max(at, fault?.[1] ?? at)];
        const margin = Math.max(5000, (right - left) * 0.2);
        steering.show(left - margin, right + margin);
        steering.go(at);
      }
      panel.scrollIntoView({ block: "start" });
      panel.focus({ preventScroll: true });
    };
  }

  function nearestAnomaly(charts, time, t) {
    const near = charts.anomalies
      .map(({ at }, number) => [at === null ? Infinity : Math.abs(at - t), number])
      .sort(([a], [b]) => a - b)[0];
    return near && near[0] <= 0.06 * (time.end - time.start) ? near[1] : null;
  }

  function wireAnomalies(charts, model, time, cursor, choose) {
    const source = model.get_model_by_name("anomaly_marks");
    source?.selected.on_change(source.selected.properties.indices, () => {
      const [index] = source.selected.indices;
      if (index === undefined) return;
      source.selected.indices = [];
      choose(source.data.number[index], by("scrub"));
    });
    const layer = by("lane-anomalies")?.querySelector(".touch");
    layer?.addEventListener("click", () => {
      const number = nearestAnomaly(charts, time, cursor.location);
      if (number !== null) choose(number, by("scrub"));
    });
    for (const button of document.querySelectorAll("button[data-anomaly]")) {
      button.onclick = () => choose(Number(button.dataset.anomaly), button);
      button.hidden = false;
    }
  }

  function wireFaults(steering) {
    for (const button of document.querySelectorAll("button[data-from]")) {
      const [left, right] = [Number(button.dataset.from), Number(button.dataset.to)];
      const margin = Math.max(3000, (right - left) * 0.3);
      button.onclick = () => {
        steering.show(left - margin, right + margin);
        steering.go(left);
        by("timeline").scrollIntoView();
      };
      button.disabled = false;
    }
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
      if (Number.isFinite(cursor.location)) readout(charts, model, time, cursor.location);
    });
    // A canvas has nothing to do by key; the slider moves the cursor of all of them.
    for (const plot of document.querySelectorAll(".plot > *")) plot.tabIndex = -1;
    if (window.matchMedia("(pointer: coarse)").matches) {
      for (const lane of Object.keys(charts.figures)) touchLayer(by(`lane-${lane}`), charts, time, cursor);
    }
    const steering = steer(charts, time, whole, cursor);
    wireAnomalies(charts, model, time, cursor, chooser(charts, steering));
    wireFaults(steering);
    if (!model.is_idle) await new Promise((done) => model.idle.connect(done));
    document.documentElement.dataset.charts = dark.matches ? "dark" : "light";
    return () => ({ start: time.start, end: time.end });
  }

  // -- paper

  function canvasesIn(node) {
    const below = [...(node.shadowRoot?.children ?? []), ...node.children];
    return below.flatMap((child) => (child.tagName === "CANVAS" ? [child] : canvasesIn(child)));
  }

  // A canvas is as wide as the window, and paper is not: the printer gets a picture that scales.
  function picture(plot) {
    const layers = canvasesIn(plot).filter((layer) => layer.width > 0);
    if (!layers.length) return;
    const whole = Object.assign(document.createElement("canvas"), { width: layers[0].width, height: layers[0].height });
    for (const layer of layers) whole.getContext("2d").drawImage(layer, 0, 0);
    plot.querySelector("img")?.remove();
    plot.append(Object.assign(document.createElement("img"), { src: whole.toDataURL(), alt: "" }));
  }

  // Paper has no hidden parts: what is folded on the screen is opened for the printer and folded again.
  let folded = [];
  window.addEventListener("beforeprint", () => {
    document.querySelectorAll(".plot").forEach(picture);
    folded = [...document.querySelectorAll("details:not([open])")];
    for (const part of folded) part.open = true;
  });
  window.addEventListener("afterprint", () => {
    for (const part of folded) part.open = false;
    for (const made of document.querySelectorAll(".plot > img")) made.remove();
  });

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
