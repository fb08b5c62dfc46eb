// What ties the libraries together: theme, figures and their selectors, tables, the browser, and the state in the address.
const data = JSON.parse(document.getElementById("data").textContent);
const root = document.documentElement;
const state = { section: "", values: new URLSearchParams() };

function readAddress() {
  const [section, query] = location.hash.slice(1).split("?");
  state.section = { browser: "mentions" }[section] || section || "";  // the name that older addresses have
  state.values = new URLSearchParams(query || "");
}
function remember(key, value) {
  if (value) state.values.set(key, value); else state.values.delete(key);
  const query = state.values.toString();
  history.replaceState(null, "", "#" + state.section + (query ? "?" + query : ""));
}
const text = (tag, content, cls) => { const e = document.createElement(tag); e.textContent = content; if (cls) e.className = cls; return e; };

// ---- theme
function theme() { return state.values.get("theme") || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light"); }
function applyTheme() {
  root.dataset.theme = theme();
  root.classList.toggle("dark", theme() === "dark");  // DataTables' own switch
  const button = document.getElementById("theme");
  button.textContent = theme() === "dark" ? "Light" : "Dark";
  button.setAttribute("aria-label", theme() === "dark" ? "Light theme" : "Dark theme");
}

// ---- figures
const views = {};
let moved = false;  // once the reader moves, the page stays where it is
for (const kind of ["wheel", "touchstart", "keydown", "pointerdown"]) addEventListener(kind, () => { moved = true; }, { passive: true, once: true });
const arrive = () => { if (state.section && !moved) document.getElementById(state.section)?.scrollIntoView({ behavior: "instant" }); };
async function draw(figure) {
  views[figure.name] = [];
  for (const [i, panel] of figure.panels.entries()) {
    const spec = structuredClone(panel.spec);
    spec.autosize = { type: "fit-x", contains: "padding" };
    spec.datasets = { [figure.name]: data.figures[figure.name] };
    const holder = document.getElementById(`view-${figure.name}-${i}`);
    const { view } = await vegaEmbed(holder, spec, { actions: false, renderer: "svg", config: data.config[theme()], logLevel: 1, tooltip: { theme: theme() } });
    for (const name of Object.keys(figure.selectors)) view.signal(name, chosen(figure, name));
    await view.runAsync();
    views[figure.name].push(view);
  }
  arrive();
}
function chosen(figure, name) {
  const asked = state.values.get(`${figure.name}.${name}`);
  return figure.selectors[name].includes(asked) ? asked : figure.selectors[name][0];
}
function figures() {
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) if (entry.isIntersecting) {
      seen.unobserve(entry.target);
      draw(data.specs.find((f) => f.name === entry.target.dataset.figure));
    }
  }, { rootMargin: "400px" });
  for (const figure of data.specs) {
    const element = document.querySelector(`[data-figure="${figure.name}"]`);
    for (const select of element.querySelectorAll("select")) {
      select.value = chosen(figure, select.name);
      select.addEventListener("change", async () => {
        remember(`${figure.name}.${select.name}`, select.value);
        for (const view of views[figure.name] || []) await view.signal(select.name, select.value).runAsync();
      });
    }
    seen.observe(element);
  }
}

// ---- tables
function table(id, extra = {}) {
  const source = data.tables[id];
  const [field, direction] = (state.values.get(`${id}.order`) || "").split(":");
  const numbers = source.numbers;
  const made = new DataTable(`#table-${id}`, {
    data: source.rows, deferRender: true, pageLength: 15, autoWidth: false, order: field ? [[Number(field), direction]] : [],
    search: { search: state.values.get(`${id}.search`) || "" },
    columns: source.columns.map((title, i) => ({
      title, className: numbers.includes(i) ? "dt-right" : "", type: numbers.includes(i) ? "num" : "string", visible: !source.hidden.includes(i),
      render: numbers.includes(i) ? (v, kind) => (kind !== "display" || v === null ? v : Number(v).toLocaleString("en", { maximumFractionDigits: source.digits[i] ?? 0, minimumFractionDigits: source.digits[i] ?? 0 })) : DataTable.render.text(),
    })),
    columnControl: ["order", ["searchList", "search"]],
    ordering: { indicators: false, handler: true },
    layout: { topStart: { buttons: [{ extend: "csvHtml5", text: "Download CSV", title: `mentionforge-${id}`, exportOptions: { orthogonal: "raw" } }] }, topEnd: "search", bottomStart: "info", bottomEnd: { paging: innerWidth < 640 ? { buttons: 3, firstLast: false } : { buttons: 7 } } },
    language: { search: "Search", info: "_START_ to _END_ of _TOTAL_", infoFiltered: "(out of _MAX_)" },
    ...extra,
  });
  made.on("search.dt", () => remember(`${id}.search`, made.search()));
  made.on("order.dt", () => { const o = made.order()[0]; remember(`${id}.order`, o && o[1] ? `${o[0]}:${o[1]}` : ""); });
  return made;
}

// ---- mention browser
function highlighted(note) {
  const p = document.createElement("p"); p.className = "text";
  let at = 0; const letters = Array.from(note.text);  // offsets count characters, not UTF-16 units
  for (const [start, end] of note.spans) {
    p.append(letters.slice(at, start).join("")); p.append(text("mark", letters.slice(start, end).join(""))); at = end;
  }
  p.append(letters.slice(at).join(""));
  return p;
}
function concept(cui) {
  const holder = document.getElementById("concept"), c = data.browser[cui];
  holder.replaceChildren();
  if (!c) return;
  holder.append(text("h3", `${c.name || cui} (${cui})`));
  if (c.names.length) holder.append(text("p", `Names: ${c.names.join("; ")}${c.more_names ? `; and ${c.more_names} more` : ""}`));
  if (c.definition) holder.append(text("p", c.definition, "soft"));
  holder.append(text("h3", `Synthetic notes (${c.notes_total})`));
  if (!c.notes.length) holder.append(text("p", c.notes_total ? "Their text is licensed and left out of this page." : "none", "soft"));
  for (const n of c.notes) { holder.append(text("div", `${n.generator}, ${n.id}: found by ${n.how}`, "soft")); holder.append(highlighted(n)); }
  for (const r of c.rejected) holder.append(text("div", `${r.generator}, ${r.id}: dropped, ${r.reason.replaceAll("_", " ")}`, "soft"));
  holder.append(text("h3", "Test mentions fixed or broken, against none"));
  if (!c.changes.length) holder.append(text("p", "none", "soft"));
  for (const [i, m] of c.changes.entries()) {
    const one = document.createElement("details"), list = document.createElement("ul");
    one.open = i === 0;
    const counts = ["fixed", "broken"].filter((change) => m[change].length).map((change) => `${change} by ${m[change].length} cell${m[change].length > 1 ? "s" : ""}`);
    one.append(text("summary", `${m.surface ? `“${m.surface}” in ${m.document}` : m.id} (${m.corpus}): ${counts.join(", ")}`), list);
    for (const change of ["fixed", "broken"]) if (m[change].length) list.append(text("li", `${change} by ${m[change].join("; ")}`, change));
    holder.append(one);
  }
}
function browser() {
  const made = table("concepts", { pageLength: 10, createdRow: (row) => { row.tabIndex = 0; row.setAttribute("role", "button"); } });
  const open = (row) => {
    const cui = made.row(row).data()[0];
    remember("concept", cui); concept(cui);
    document.getElementById("concept").scrollIntoView({ block: "nearest" });
  };
  const body = document.querySelector("#table-concepts tbody");
  body.addEventListener("click", (e) => { const row = e.target.closest("tr"); if (row) open(row); });
  body.addEventListener("keydown", (e) => { if (e.key === "Enter" || e.key === " ") { e.preventDefault(); open(e.target.closest("tr")); } });
}

readAddress();
applyTheme();
document.getElementById("theme").addEventListener("click", async () => {
  remember("theme", theme() === "dark" ? "light" : "dark"); applyTheme();
  for (const figure of data.specs) if (views[figure.name]) await draw(figure);
});
for (const link of document.querySelectorAll("nav a")) link.addEventListener("click", (e) => {
  e.preventDefault(); state.section = link.hash.slice(1); remember("", ""); document.getElementById(state.section).scrollIntoView();
});
addEventListener("hashchange", () => {  // an address typed or followed within the page; replaceState makes none
  readAddress(); applyTheme(); moved = false; arrive();
  if (state.values.get("concept")) concept(state.values.get("concept"));
});
figures();
const near = new IntersectionObserver((entries) => {
  for (const entry of entries) if (entry.isIntersecting) {
    near.unobserve(entry.target);
    const id = entry.target.id.slice("table-".length);
    if (id === "concepts") browser(); else table(id);
    arrive();
  }
}, { rootMargin: "600px" });
for (const id of Object.keys(data.tables)) near.observe(document.getElementById(`table-${id}`));
if (state.values.get("concept")) concept(state.values.get("concept"));
arrive();
window.pageReady = true;
