// The icequake tab in Locust's web UI. It draws what the server-sent events of ./icequake/events say; whatever is shown goes in as text.
"use strict";
(() => {
  const KEY = "icequake", TICK_MS = 1000, SILENT_MS = 15_000, AGAIN_MS = 2000, HISTORY = 1200;
  let history = [], runId = null, faults = [], drills = [], root = null, view = {}, pressed = false;
  let acts = 0, source = null, heard = 0, lost = null, triedAt = 0, waiting = null, askedAt = Date.now();

  const el = (tag, attributes = {}, ...children) => {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name === "onclick" || name === "onsubmit" || name === "onchange") node[name] = value;
      else if (value !== null && value !== false) node.setAttribute(name, value === true ? "" : value);
    }
    node.append(...children.filter(child => child !== null));
    return node;
  };
  const svg = (tag, attributes, text) => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    if (text !== undefined) node.textContent = text;
    return node;
  };
  const count = value => value === null || value === undefined ? "–" : Number(value).toLocaleString("en");
  const percent = value => value === null || value === undefined ? "–" : Math.round(value * 100) + " %";
  const seconds = value => value === null || value === undefined ? "–" : Number(value).toFixed(1) + " s";
  const level = ratio => ratio >= 0.9 ? "bad" : ratio >= 0.7 ? "warn" : "";

  // -- talking to the session

  async function ask(path, body) {
    const options = body === undefined ? {signal: AbortSignal.timeout(10_000)} :
      {method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify(body)};
    const answer = await fetch("./icequake/" + path, options);
    const document = await answer.json();
    if (document.error) throw new Error(document.error.sentence);
    return document;
  }
  async function act(action, body, done) {
    const number = ++acts;
    say(action + " …", "");
    try {
      const answer = await ask(action, body);
      if (number === acts) say(done ? done(answer) : action + ": done", "good");  // not over the answer to a later button
    } catch (error) { say(action + ": " + error.message, "bad"); }
  }
  function say(text, kind) { view.said.textContent = text; view.said.className = "said " + kind; }

  // A stream is open only while the tab is on show: a browser has six connections for one server, whatever its number of windows.
  function listen() {
    if (!root || root.hidden || document.hidden) { hangUp(); lost = null; return; }
    const now = Date.now();
    if (source && now - heard > SILENT_MS) { hangUp(); lose("nothing was heard for " + SILENT_MS / 1000 + " s"); }
    if (!source && now - triedAt >= AGAIN_MS) connect(now);
    if (lost) tellLost();
  }
  function connect(now) {
    triedAt = heard = now;
    source = new EventSource("./icequake/events");
    source.onopen = () => { runId = null; };  // the first event has the whole history
    source.onmessage = event => { heard = Date.now(); lost = null; take(JSON.parse(event.data)); };
    source.addEventListener("problem", event => {
      heard = Date.now();
      lose(JSON.parse(event.data).error.sentence);
    });
    source.onerror = () => { hangUp(); lose("the session does not answer"); };
  }
  function hangUp() { if (source) source.close(); source = null; }
  function lose(why) { lost = {since: lost ? lost.since : Date.now(), why}; tellLost(); }
  function tellLost() {
    root.classList.add("lost");
    banner("Connection lost " + Math.round((Date.now() - lost.since) / 1000) + " s ago (" + lost.why +
           "). What is below is as of then; trying again.", "bad");
  }
  function take(state) {
    root.classList.remove("lost");
    if ((state.run ? state.run.id : "") !== runId) { runId = state.run ? state.run.id : ""; history = []; }
    history = history.concat(state.history).slice(-HISTORY);
    waiting = state;
    drawWaiting();
  }
  function drawWaiting() {
    if (pressed || !waiting) return;  // a button replaced while it is pressed would lose its click
    const state = waiting;
    waiting = null;
    draw(state);
  }

  // -- drawing

  function banner(text, kind, link) {
    view.banner.className = "banner " + kind;
    view.banner.replaceChildren(text);
    if (link) view.banner.append("\n", el("a", {href: link, target: "_blank", rel: "noopener"}, "Open the report"));
  }
  function card(name, value, kind, note) {
    return el("div", {class: "card"}, el("span", {}, name), el("b", {class: kind || ""}, value), note ? el("span", {}, note) : null);
  }

  function draw(state) {
    const run = state.run;
    if (!run) { banner(state.session.message || "No run yet: press Start.", state.session.message ? "bad" : ""); return; }
    drawBanner(state);
    drawCards(state);
    const {buffer, contract} = state;
    const over = ["judge", "done"].includes(run.phase);
    drawFill(buffer, over);
    chart(view.fillChart, "fill_ratio", 1, percent(buffer.fill_ratio), [0.5, 0.7, 0.9]);
    chart(view.freshChart, "freshness_s", contract.freshness_s, seconds(state.freshness_s), [contract.freshness_s]);
    drawAlerts(state.alerts, over);
    drawDrills(state.drills);
    drawFaults(state);
    const open = run.phase === "inject" && !run.traffic_ended;
    for (const button of view.needsRun) button.disabled = !open;
    view.flush.disabled = !open || !state.session.can_flush;
    for (const button of view.marks) button.disabled = over;
  }

  function drawCards({run, counts, table, flushes, contract, freshness_s, verdict}) {
    const some = (name, value, kind, note) => card(name, count(value), value ? kind : "", note);
    const attempted = counts.attempted;
    let looked = table.at_s === undefined ? null : "of " + count(table.acked) + " acked at " + seconds(table.at_s);
    if (verdict) {  // the judge has read every record and the whole table
      const {totals} = verdict;
      counts = {...counts, ...Object.fromEntries(["acked", "refused", "unknown", "unwanted"].map(name => [name, totals[name]]))};
      table = {...table, visible: totals.distinct, pending: totals.pending + totals.stuck, lost: totals.lost, duplicated: totals.duplicated};
      looked = "by the judge";
    }
    const {committed, failed, undecided} = flushes || {}, behind = freshness_s > contract.freshness_s;
    view.cards.replaceChildren(
      card("phase", run.phase === "inject" && !run.traffic_ended ? "running" : run.phase), card("run time", seconds(run.elapsed_s)),
      card("acked", count(counts.acked)), some("visible", table.visible, "", looked), some("pending", table.pending, "", looked),
      some(verdict ? "lost" : "lost so far", table.lost, "bad", verdict ? looked : "was visible, is no more"), some("duplicated", table.duplicated, "bad"),
      card("freshness", seconds(freshness_s), behind ? "bad" : "",
           table.error ? "the table cannot be read" : "promised: " + count(contract.freshness_s) + " s"),
      some("refused", counts.refused, "warn"), some("unknown", counts.unknown, "warn"), some("not sent", counts.not_sent, "warn"),
      some("unwanted", counts.unwanted, "", "sent to be refused"),
      card("sent per event", attempted ? (counts.sent / attempted).toFixed(2) : "–", "", "retries included"),
      some("flushes committed", committed, "", "by the target's metrics"), some("flushes failed", failed, "bad"), some("flushes undecided", undecided, "warn"));
  }

  function drawBanner(state) {
    const run = state.run, verdict = state.verdict, link = "./icequake/runs/" + encodeURIComponent(run.id) + "/report";
    if (verdict) {
      const kind = {PASS: "good", FAIL: "bad"}[verdict.verdict] || "warn";
      banner(verdict.first_screen.join("\n"), kind, link);
    } else if (run.failure) banner("This run failed: " + run.failure, "bad");
    else if (state.session.settling) banner("settling: " + run.phase + " … the verdict follows.", "warn");
    else if (run.phase === "baseline") banner("Baseline: nothing can be injected for the first seconds.", "");
    else banner("Run " + run.id + " of " + run.target + ", seed " + run.seed +
                (state.faults.length ? " · faults on: " + state.faults.join(", ") : ""), state.faults.length ? "bad" : "");
  }

  function drawDrills(rows) {
    view.done.replaceChildren(...rows.slice(-6).reverse().map(row => el("div", {class: "drill"},
      el("b", {class: row.state === "done" && row.checks.every(one => one.ok) ? "good" : ["armed", "begun"].includes(row.state) ? "" : "bad"},
        "#" + row.step + " " + row.drill + " · " + row.state + (row.seconds === undefined ? "" : " in " + seconds(row.seconds)) +
        (row.reason ? " · " + row.reason : "")),
      el("ul", {}, ...row.checks.map(one => el("li", {class: one.ok ? "" : "bad"}, (one.ok ? "ok" : "NOT ok") + "  " + one.check + ": " + one.detail))))));
    if (!rows.length) view.done.append(el("span", {class: "dim"}, "no drill so far"));
  }
  function drawAlerts(rows, over) {
    const was = row => over && row.state !== "ok" ? "was " : "";  // nothing is evaluated after the run
    view.alerts.replaceChildren(...rows.map(row => el("tr", {class: row.state},
      el("td", {}, row.name), el("td", {}, was(row) + row.state + (row.since_s === null ? "" : " since " + seconds(row.since_s))),
      el("td", {}, count(row.fired)), el("td", {class: "dim"}, row.about))));
  }

  function bar(ratio, marks) {
    const width = Math.min(100, Math.max(0, ratio * 100));
    return el("div", {class: "bar"}, el("i", {class: level(ratio), style: "width:" + width + "%"}),
      ...marks.map(mark => el("u", {style: "left:" + mark * 100 + "%", title: mark * 100 + " %"})));
  }
  function drawFill(buffer, over) {
    const rows = buffer.partitions.length ? buffer.partitions : buffer.fill_ratio === null ? [] :
      [{name: "fullest buffer", fill_ratio: buffer.fill_ratio}];
    view.fill.replaceChildren(...rows.map(row => el("div", {class: "fill"}, el("span", {title: row.name}, row.name),
      bar(row.fill_ratio, [0.5, 0.7, 0.9]), el("span", {class: level(row.fill_ratio)}, percent(row.fill_ratio)))));
    if (!rows.length) view.fill.append(el("span", {class: "dim"}, over ? "the run is over" : buffer.answers ? "nothing is buffered" : "the target does not answer"));
  }

  function chart(node, name, atLeast, value, lines) {
    const points = history.filter(point => point[name] !== null && point[name] !== undefined);
    node.replaceChildren();
    if (points.length < 2) return;
    const first = history[0].t_s, span = Math.max(1, history[history.length - 1].t_s - first);
    const top = Math.max(atLeast, ...points.map(point => point[name])) * 1.05;
    const x = t => (t - first) / span * 500, y = value => 96 - value / top * 90;
    for (const line of lines) {
      node.append(svg("line", {x1: 0, x2: 500, y1: y(line), y2: y(line), stroke: "currentColor", "stroke-opacity": .25, "stroke-dasharray": "3 3"}));
    }
    node.append(svg("polyline", {points: points.map(point => x(point.t_s) + "," + y(point[name])).join(" "), fill: "none",
      stroke: "var(--accent)", "stroke-width": 1.5, "vector-effect": "non-scaling-stroke"}));
    const now = value === "–" ? "not known now" : "now " + value;
    node.setAttribute("aria-label", now);
    node.previousElementSibling.lastElementChild.textContent = now + ", " + Math.round(span) + " s are shown";
  }

  function drawFaults(state) {
    const now = Math.max(1, state.run.elapsed_s);
    const focus = document.activeElement && document.activeElement.dataset ? document.activeElement.dataset.step : undefined;
    const recent = state.steps.length - 12;
    const shown = state.steps.filter((step, index) => index >= recent || step.state === "injected");  // what is on can be healed
    view.lanes.replaceChildren(...shown.map(step => {
      const coming = step.state === "armed" && step.by_hand;  // it is on, and its effect is being measured
      const from = coming ? step.armed_s : step.injected_s, to = step.healed_s ?? step.void_s ?? step.failed_s ?? now;
      const words = "#" + step.step + " " + step.fault + " · " + (coming ? "being injected" : step.state) +
        (step.requests_affected === undefined ? "" : " · " + (step.requests_affected === null ? "requests that left no record" : count(step.requests_affected) + " requests") + " met it") +
        (step.reason ? " · " + step.reason : "") + (step.error ? " · " + step.error : "");
      const line = el("div", {class: "bar"}, from === undefined ? null :
        el("i", {class: coming ? "coming" : "", style: "left:" + from / now * 100 + "%;width:" + Math.max(.5, (to - from) / now * 100) + "%;right:auto"}));
      const heal = step.state === "injected" && !state.run.traffic_ended ?
        el("button", {"data-step": step.step, onclick: () => act("heal", {step: step.step})}, "heal") : null;
      return el("div", {class: "lane"}, el("span", {class: {void: "warn", failed: "bad"}[step.state] || ""}, words, " ", heal), line);
    }));
    if (state.steps.length) view.lanes.append(el("div", {class: "lane axis dim"}, el("span"), el("div", {}, el("span", {}, "0 s"), el("span", {}, seconds(now)))));
    else view.lanes.append(el("span", {class: "dim"}, "no fault so far"));
    const again = focus !== undefined && view.lanes.querySelector('[data-step="' + Number(focus) + '"]');
    if (again) again.focus();
    const words = {operator: e => e.action + (e.text ? ": " + e.text : "") + (e.fault ? " " + e.fault : "") +
                     (e.drill ? " " + e.drill : "") + (e.ok === false ? " failed: " + e.detail : ""),
                   alert: e => "alert " + e.name + " " + e.state, phase: e => "phase " + e.phase, process: e => e.name + " " + e.state, note: e => e.text};
    const latest = state.entries.filter(entry => words[entry.event]).slice(-10).reverse();
    view.entries.replaceChildren(...latest.map(entry => el("li", {}, seconds(entry.t_s) + "  ", words[entry.event](entry))));
  }

  // -- the form

  function fieldsOf(params) {
    return Object.entries(params).map(([name, value]) => {
      const plain = typeof value !== "object", number = typeof value === "number";
      const field = plain ? el("input", {name, type: number ? "number" : "text", step: "any", value: String(value), size: 10})
        : el("textarea", {name, rows: 2, spellcheck: "false"}, JSON.stringify(value));
      field.dataset.kind = plain && !number && typeof value === "string" ? "text" : "json";
      return el("label", {}, name, field);
    });
  }
  function valuesOf(fields) {
    const given = {};
    for (const field of fields.querySelectorAll("[name]")) {
      try { given[field.name] = field.dataset.kind === "text" ? field.value : JSON.parse(field.value); }
      catch (error) { throw new Error(field.name + " is not JSON: " + error.message); }
    }
    return given;
  }
  function chooseFault() {
    const fault = faults.find(one => one.name === view.select.value);
    if (!fault) return;
    view.about.textContent = fault.problem ? "Not possible here: " + fault.problem : fault.about;
    view.fields.replaceChildren(...fieldsOf(fault.with));
  }
  function chooseDrill() {
    const drill = drills.find(one => one.name === view.drill.value);
    if (!drill) return;
    view.procedure.textContent = drill.problem ? "Not possible here: " + drill.problem : drill.text;
    view.drillFields.replaceChildren(...fieldsOf(drill.with));
  }
  function perform(event) {
    event.preventDefault();
    let given;
    try { given = valuesOf(view.drillFields); } catch (error) { say("drill: " + error.message, "bad"); return; }
    act("drill", {drill: view.drill.value, with: given}, answer => "drill begun as step " + answer.step);
  }
  function inject(event) {
    event.preventDefault();
    let given;
    try { given = Object.assign(valuesOf(view.fields), view.more.value.trim() ? JSON.parse(view.more.value) : {}); }
    catch (error) { say("inject: " + error.message, "bad"); return; }
    const lasts = view.lasts.value ? Number(view.lasts.value) : null;
    act("inject", {fault: view.select.value, with: given, for_s: lasts}, answer => "injected as step " + answer.step);
  }
  function flushed(answer) {
    return "flushed: " + answer.flushes.map(one => one.events + " events " + one.outcome).join(", ") + "; " +
      count(answer.buffered_events) + " still buffered";
  }

  function build() {
    const button = (text, kind, onclick) => el("button", {type: "button", class: kind, onclick}, text);
    view = {said: el("div", {role: "status", class: "said"}), banner: el("section", {class: "banner", role: "status"}, "…"),
      cards: el("div", {class: "cards"}), fill: el("div"), alerts: el("tbody"), lanes: el("div"), entries: el("ul"),
      fillChart: svg("svg", {viewBox: "0 0 500 96", preserveAspectRatio: "none", role: "img"}),
      freshChart: svg("svg", {viewBox: "0 0 500 96", preserveAspectRatio: "none", role: "img"}),
      select: el("select", {onchange: chooseFault, "aria-label": "fault"}), about: el("p", {class: "dim"}), fields: el("div"),
      more: el("textarea", {rows: 1, placeholder: "{}", spellcheck: "false"}), lasts: el("input", {type: "number", "aria-label": "for seconds", min: 1, step: "any", value: 30, size: 6}),
      drill: el("select", {onchange: chooseDrill, "aria-label": "drill"}), drillFields: el("div"), procedure: el("p", {class: "dim text"}), done: el("div"),
      text: el("input", {type: "text", maxlength: 200, placeholder: "what happened", "aria-label": "mark"})};
    for (const fields of [view.fields, view.drillFields]) fields.style.display = "contents";
    const drilling = el("button", {type: "submit"}, "do the drill");
    const injecting = el("button", {type: "submit", class: "bad"}, "inject"), healing = button("heal all", "", () => act("heal", {}));
    view.flush = button("flush", "", () => act("flush", {}, flushed));
    const halt = button("halt", "bad", () => act("halt", {}, () => "halted: everything is healed, the run ends"));
    const mark = text => () => text && act("mark", {text});
    view.marks = [button("paged", "", mark("paged")), button("mitigated", "", mark("mitigated")),
      button("mark", "", () => { mark(view.text.value)(); view.text.value = ""; })];
    view.needsRun = [injecting, healing, halt, drilling];
    for (const one of [...view.needsRun, ...view.marks, view.flush]) one.disabled = true;  // until the state is known
    root.replaceChildren(view.banner, view.cards, el("div", {class: "columns"},
      el("section", {}, el("h2", {}, "Fill of each partition buffer (lines at 50, 70 and 90 %)"), view.fill),
      el("section", {}, el("h2", {}, "Fullest buffer over time ", el("span", {class: "dim"})), view.fillChart,
        el("h2", {}, "Freshness over time ", el("span", {class: "dim"})), view.freshChart),
      el("section", {}, el("h2", {}, "Break something"),
        el("form", {onsubmit: inject}, el("label", {}, "fault", view.select), view.fields, el("label", {}, "further parameters (JSON)", view.more),
          el("label", {}, "for seconds (empty: until healed)", view.lasts), injecting), view.about,
        el("div", {class: "buttons"}, healing, view.flush, halt), el("div", {class: "buttons"}, ...view.marks, view.text), view.said),
      el("section", {}, el("h2", {}, "Faults"), view.lanes, view.entries),
      el("section", {}, el("h2", {}, "Drills"),
        el("form", {onsubmit: perform}, el("label", {}, "drill", view.drill), view.drillFields, drilling),
        el("details", {}, el("summary", {}, "the procedure"), view.procedure), view.done),
      el("section", {}, el("h2", {}, "Alerts"), el("div", {class: "scroll"}, el("table", {},
        el("thead", {}, el("tr", {}, ...["alert", "state", "fired", "when"].map(name => el("th", {scope: "col"}, name)))), view.alerts)))));
    ask("drills").then(answer => {
      drills = answer.drills;
      view.drill.replaceChildren(...drills.map(one => el("option", {value: one.name, disabled: one.problem !== null}, one.name)));
      chooseDrill();
    }).catch(error => say("the drills cannot be read: " + error.message, "bad"));
    ask("faults").then(answer => {
      faults = answer.faults;
      view.select.replaceChildren(...faults.map(one => el("option", {value: one.name, disabled: one.problem !== null}, one.name)));
      if (faults.some(one => one.name === "slow-r2" && !one.problem)) view.select.value = "slow-r2";
      chooseFault();
    }).catch(error => say("the catalogue cannot be read: " + error.message, "bad"));
  }

  // -- mounting: Locust draws an empty body for a tab without a table

  function theme() {
    const style = getComputedStyle(document.body), ink = style.color, paper = style.backgroundColor;
    const light = (paper.match(/\d+/g) || [255, 255, 255]).slice(0, 3).reduce((sum, part) => sum + Number(part), 0) > 380;
    root.style.setProperty("--ink", ink);
    root.style.setProperty("--paper", paper);
    root.dataset.theme = light ? "light" : "dark";
  }
  function mount() {
    const tab = [...document.querySelectorAll('[role="tab"]')].find(one => one.textContent.trim().toLowerCase() === KEY);
    const chosen = tab && tab.getAttribute("aria-selected") === "true";
    if (!chosen) { if (root && !root.hidden) { root.hidden = true; listen(); } return; }
    const list = tab.closest(".MuiTabs-root") || tab.parentElement;
    const place = list.closest(".MuiBox-root") || list.parentElement;
    if (!root) {
      root = el("div", {id: KEY, hidden: true});
      root.addEventListener("pointerdown", () => { pressed = true; });
      for (const end of ["pointerup", "pointercancel"]) window.addEventListener(end, () => { pressed = false; setTimeout(drawWaiting); });
      build();
    }
    if (root.previousElementSibling !== place) place.after(root);
    theme();
    if (!root.hidden) return;
    root.hidden = false;
    listen();
  }
  // Locust's page asks for the figures of a run only while it shows one: a window at the form, or at the end of the last run, would
  // never learn that another began, and its Start would change the load of what it does not show. It is drawn anew, once a run.
  function asks(list) { if (list.getEntries().some(one => one.name.includes("/stats/requests"))) askedAt = Date.now(); }
  async function follow() {
    if (document.hidden || Date.now() - askedAt < 3 * AGAIN_MS) return;
    let run;
    try { run = (await ask("state?since=1e12")).run; } catch { return; }  // gone or busy: there is nothing to follow
    if (!run || !["baseline", "inject"].includes(run.phase) || run.traffic_ended || Date.now() - askedAt < 3 * AGAIN_MS) return;
    if (sessionStorage.getItem(KEY) === run.id) return;
    sessionStorage.setItem(KEY, run.id);
    location.reload();
  }
  new PerformanceObserver(asks).observe({type: "resource", buffered: true});
  new MutationObserver(mount).observe(document.getElementById("root"), {childList: true, subtree: true, attributes: true, attributeFilter: ["aria-selected", "class"]});
  setInterval(() => { mount(); listen(); }, TICK_MS);
  setInterval(follow, AGAIN_MS);
  document.addEventListener("visibilitychange", listen);
  mount();
})();
