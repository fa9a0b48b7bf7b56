"""Style: CSS of the page, light and dark, and the script that shows tips."""

# Color of a block's edge -> mixers, by what a token sees: all others, some, neighbors, or itself.
EDGES = {
    "#0072b2": "softmax levit",
    "#56b4e9": "grouped cascaded talking_heads",
    "#009e73": "pooled linformer performer",
    "#cc79a7": "linear multiscale_linear",
    "#b8a900": "token_mlp token_linear",
    "#e69f00": "window cosine_window cascaded_window halo focal aggregate banded unfold mobilevit "
    "mobilevit2",
    "#d55e00": "mbconv mbconv_act mbconv_bias fused_mbconv separable depthwise depthwise_residual "
    "conv_next",
    "#999999": "pool pool_raw pool_scaled norm2d",
    "var(--soft)": "mlp conv_mlp normed_mlp star_mlp",
}

STYLE = """
:root {
  color-scheme: light dark;
  --paper: #faf9f6; --panel: #ffffff; --ink: #22262b; --soft: #626a75; --line: #e5e2da;
  --accent: #c8500b; --accent-ink: #a8430a; --calm: #2171b5; --good: #18794e; --bad: #b3261e;
  --s0: #a6cfe8; --s1: #72b2dc; --s2: #4292c6; --s3: #1f6aae; --s4: #0b3d78;
  --v0: #2171b5; --v1: #72b2dc; --v2: #e3a34b; --v3: #c8500b; --v4: #7a8794; --v5: #8d6bb0;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14171b; --panel: #1b1f24; --ink: #e7e5e0; --soft: #9aa3ae; --line: #2d333a;
    --accent: #ff9a52; --accent-ink: #ffab70; --calm: #6fb1e6; --good: #5bc98f; --bad: #ff8a80;
    --s0: #1f4e79; --s1: #2f74ad; --s2: #5a9fd4; --s3: #93c4ea; --s4: #d3e8f8;
    --v0: #3f87c5; --v1: #24567f; --v2: #b98235; --v3: #c65f24; --v4: #56616c; --v5: #73558f;
  }
}
* { box-sizing: border-box }
body {
  margin: 0 auto; padding: 2.5rem 1.25rem 4rem; max-width: 1080px;
  background: var(--paper); color: var(--ink);
  font: 16px/1.55 "Inter", "Segoe UI", system-ui, -apple-system, "Helvetica Neue", sans-serif;
  font-variant-numeric: tabular-nums; -webkit-text-size-adjust: 100%;
}
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .4rem; letter-spacing: -.015em }
h2 { font-size: 1.25rem; margin: 3rem 0 .3rem; letter-spacing: -.01em }
h3 { font-size: 1.05rem; margin: 0 }
h4 { font-size: .9rem; margin: 0; font-weight: 600 }
p { margin: .3rem 0 1rem; max-width: 46rem }
.lead, .note, figcaption { color: var(--soft) }
.note, figcaption { font-size: .88rem }
code, pre, .key { font-family: ui-monospace, "SF Mono", "Cascadia Mono", Menlo, monospace }
.key { font-size: .82em; color: var(--soft) }
pre { overflow-x: auto; padding: 1rem; background: var(--panel); border: 1px solid var(--line);
  border-radius: 8px; font-size: .8rem; line-height: 1.45 }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: .75rem;
  margin: 1.5rem 0 0 }
.tile, .card { background: var(--panel); border: 1px solid var(--line); border-radius: 10px }
.tile { padding: .8rem 1rem }
.tile b { display: block; font-size: 1.5rem; line-height: 1.25; letter-spacing: -.02em }
.tile span { color: var(--soft); font-size: .85rem; display: block; line-height: 1.35 }
.card { padding: 1.1rem 1.2rem 1.2rem; margin: 1rem 0 }
figure { margin: 1rem 0 0; padding: 1rem .6rem .8rem; background: var(--panel);
  border: 1px solid var(--line); border-radius: 10px }
figcaption { padding: .4rem .6rem 0 }
svg { display: block; width: 100%; height: auto; overflow: visible }
.narrow { display: none }
.scroll { overflow-x: auto }
table { border-collapse: collapse; font-size: .9rem; width: 100% }
th { font-weight: 600; color: var(--soft); font-size: .8rem; vertical-align: bottom }
td, th { border-bottom: 1px solid var(--line); padding: .45rem .8rem .45rem 0; text-align: left;
  white-space: nowrap }
td.wrap { white-space: normal; min-width: 12rem }
tr:last-child td { border-bottom: 0 }
.share { display: inline-block; min-width: 3.2em; text-align: center; border-radius: 4px;
  background: color-mix(in srgb, var(--calm) calc(var(--share) * 70%), transparent) }
.good { color: var(--good) } .bad { color: var(--bad); font-weight: 600 }
.badge { display: inline-block; min-width: 1.6em; padding: 0 .4em; border-radius: .8em;
  background: var(--accent); color: var(--paper); font-weight: 700; text-align: center }
.head { display: flex; flex-wrap: wrap; gap: .3rem .8rem; align-items: baseline }
.facts { display: flex; flex-wrap: wrap; gap: .2rem 1.6rem; margin: .4rem 0 1rem;
  color: var(--soft);
  font-size: .9rem }
.facts b { color: var(--ink); font-weight: 600 }
details { margin-top: .8rem } summary { cursor: pointer; color: var(--soft); font-size: .9rem }
ul { padding-left: 1.2rem } li { margin: .35rem 0; max-width: 52rem }
.legend { display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; font-size: .82rem;
  color: var(--soft); padding: 0 .6rem; align-items: center }
.legend i { display: inline-block; width: .8em; height: .8em; border-radius: 50%;
  margin-right: .35em; vertical-align: -.06em }
.legend i.diamond { border-radius: 0; transform: rotate(45deg) scale(.85);
  background: var(--accent) }
.legend i.hollow { background: none; border: 2px solid var(--accent) }
.legend i.square { border-radius: 1px; border: 2px solid var(--soft) }
.under { padding: .4rem 0 0 } .under i { border-radius: 2px }
.ramp { white-space: nowrap } .ramp i { margin: 0 1px 0 0 }

.grid { stroke: var(--line) }
svg text { fill: var(--ink); font-size: 13px }
svg .tick { fill: var(--soft); font-size: 12px } svg .axis { fill: var(--soft); font-size: 12.5px }
.dot { stroke: var(--panel); stroke-width: .8; opacity: .75 }
.on-front { opacity: 1; stroke: var(--ink); stroke-width: 1.1 }
.s0 { fill: var(--s0) } .s1 { fill: var(--s1) } .s2 { fill: var(--s2) } .s3 { fill: var(--s3) }
.s4 { fill: var(--s4) }
i.s0 { background: var(--s0) } i.s1 { background: var(--s1) } i.s2 { background: var(--s2) }
i.s3 { background: var(--s3) } i.s4 { background: var(--s4) }
.front { fill: none; stroke: var(--soft); stroke-width: 1.2; opacity: .8 }
.model { fill: var(--accent); stroke: var(--panel); stroke-width: 1.5; cursor: pointer }
.model.unverified { fill: var(--panel); stroke: var(--accent); stroke-width: 2.5 }
.model:focus { outline: none; stroke: var(--ink); stroke-width: 2.5 }
svg .letter { fill: var(--accent-ink); font-weight: 700; font-size: 15px; paint-order: stroke;
  stroke: var(--panel); stroke-width: 3px }
.whisker { stroke: var(--accent); stroke-width: 1.5; opacity: .55 }
.step { fill: none; stroke: var(--accent); stroke-dasharray: 2 3; opacity: .6 }
.baseline { fill: var(--panel); stroke: var(--soft); stroke-width: 2 }
.right { fill: var(--v0) } .wrong { fill: var(--v3) }
.empty-row { fill: var(--line); opacity: .4 }
svg .class-name { font-size: 12px } svg .count { font-size: 11.5px }
svg .baseline-label { fill: var(--soft); font-size: 12px; paint-order: stroke;
  stroke: var(--panel); stroke-width: 3px }
.limit { stroke: var(--bad); stroke-dasharray: 6 4 } svg .limit-label { fill: var(--bad);
  font-size: 12px; paint-order: stroke; stroke: var(--panel); stroke-width: 3px }
.teacher { stroke: var(--soft); stroke-dasharray: 1 4; stroke-linecap: round; stroke-width: 1.6 }
svg .teacher-label { fill: var(--soft); font-size: 12px; paint-order: stroke;
  stroke: var(--panel); stroke-width: 3px }
.band { fill: var(--calm); opacity: .25 } .promise { stroke: var(--calm); stroke-width: 2 }
.volume { fill: none; stroke: var(--calm); stroke-width: 2 }
.hit { fill: transparent } .hit:hover { fill: var(--calm); opacity: .12 }

.box { fill: var(--paper); stroke: var(--line) } .edge { fill: var(--line) }
.flow { stroke: var(--soft); opacity: .5 }
svg .box-title { font-weight: 600; font-size: 13px } svg .box-detail { fill: var(--soft);
  font-size: 10.5px }
svg .bits { fill: var(--soft); font-size: 11.5px } svg .bits.few { fill: var(--accent-ink);
  font-weight: 700 }
svg .heading { fill: var(--soft); font-size: 12px; font-weight: 600 }
.rail { fill: var(--line) } .tokens { fill: var(--calm) }

.bar { display: flex; gap: 1px; height: 24px; border-radius: 5px; overflow: hidden;
  font-size: .76rem }
.bar.thin { height: 8px; margin-bottom: 3px; opacity: .55 }
.bar.thin span { font-size: 0 }
.bar span { min-width: 0; overflow: hidden; white-space: nowrap; text-align: center;
  line-height: 24px;
  color: #fff; padding: 0 3px }
.v0, .k-mixer { background: var(--v0) } .v1, .k-mlp { background: var(--v1) }
.v2, .k-stem { background: var(--v2) } .v3, .k-downsample { background: var(--v3) }
.v4, .k-rest { background: var(--v4) } .v5, .k-head { background: var(--v5) }
.bar .v1, .bar .v2, .bar .k-mlp, .bar .k-stem { color: #16202a }
@media (prefers-color-scheme: dark) {
  .bar .v1, .bar .v2, .bar .k-mlp, .bar .k-stem { color: #fff }
}
.thumbs { display: flex; flex-wrap: wrap; gap: .7rem .6rem; margin: .4rem 0 1rem }
.thumbs div { width: 84px; font-size: .74rem; line-height: 1.25; color: var(--soft) }
.thumbs img { display: block; border-radius: 6px; margin-bottom: .2rem; object-fit: cover }
.thumbs span { display: block; overflow-wrap: anywhere }
.thumbs b { color: var(--accent-ink) }
a { color: var(--calm) }
.commands dt { color: var(--soft); font-size: .88rem; margin-top: .7rem }
.commands dd { margin: .15rem 0 0; overflow-x: auto; background: var(--panel);
  border: 1px solid var(--line); border-radius: 8px; padding: .45rem .7rem }
.commands code { font-size: .82rem; white-space: nowrap; user-select: all }
.choice { display: grid; grid-template-columns: 15rem 1fr; gap: .3rem 1.5rem; align-items: center;
  padding: .7rem 0; border-bottom: 1px solid var(--line) }
.choice:last-child { border-bottom: 0 }
.weight { display: grid; grid-template-columns: 4.5rem 1fr 2.6rem; gap: .5rem; align-items: center;
  font-size: .78rem; color: var(--soft); line-height: 1.3 }
.weight i { height: 5px; border-radius: 3px; background: var(--line); display: block }
.weight b { height: 5px; border-radius: 3px; background: var(--calm); display: block }
.weight span:last-child { text-align: right }
#tip { position: fixed; z-index: 9; pointer-events: none; max-width: min(24rem, 92vw);
  display: none;
  white-space: pre-line; background: var(--ink); color: var(--paper); border-radius: 8px;
  padding: .5rem .7rem; font-size: .82rem; line-height: 1.4; box-shadow: 0 4px 18px #0004 }
@media (max-width: 720px) {
  body { padding: 1.4rem .8rem 3rem } h1 { font-size: 1.5rem }
  .wide { display: none } .narrow { display: block }
  .tiles { grid-template-columns: 1fr 1fr } .tile b { font-size: 1.25rem }
  .card { padding: .9rem } figure { padding: .7rem .4rem }
  .choice { grid-template-columns: 1fr }
}
@media print { body { max-width: none } .card, figure { break-inside: avoid } }
""" + "\n".join(
    f".edge:is({', '.join(f'.{name}' for name in names.split())}) {{ fill: {color} }}"
    for color, names in EDGES.items()
)

SCRIPT = """
const tip = document.getElementById("tip");
function show(event) {
  const target = event.target.closest && event.target.closest("[data-tip]");
  tip.style.display = target ? "block" : "none";
  if (!target) return;
  tip.textContent = target.dataset.tip;
  const box = target.getBoundingClientRect();
  const x = event.clientX === undefined ? box.right : event.clientX;
  const y = event.clientY === undefined ? box.bottom : event.clientY;
  tip.style.left = Math.max(6, Math.min(x + 14, innerWidth - tip.offsetWidth - 6)) + "px";
  const below = y + 18 + tip.offsetHeight < innerHeight;
  tip.style.top = (below ? y + 18 : y - tip.offsetHeight - 12) + "px";
}
for (const name of ["pointermove", "pointerdown", "focusin"]) document.addEventListener(name, show);
document.addEventListener("scroll", () => { tip.style.display = "none" }, { passive: true });
"""
