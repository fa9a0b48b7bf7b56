// Measure: models and sub-blocks of a kit, in the browser that shows its page.
//
// Graphs are timed as the program that calibrates does it: those of a set in turn, in an order that
// is shuffled anew for every round, each sample after runs that are not timed.

const HEAT_RUNS = 3;
const LOOP_MS = 2.5;
const LOOP_RUNS = 3;
const MOST_LOOPS = 100;
const STABLE = 0.05;
const MAX_WARM_UP = 12;
const MEMORY_RUNS = 3;

/** Measures all that a kit holds; `show` tells whoever looks. */
export async function measure(show) {
  show.say("Loading.");
  const [kit, asked] = [await json("kit.json"), await json("page.json")];
  if (Number(asked.threads) > 1 && !crossOriginIsolated) {
    throw new Error(`${asked.threads} threads need a page that is isolated: open that of page.py`);
  }
  window.compiled = await WebAssembly.compile(await bytes(asked.code)); // kept for all frames
  const said = await begun(kit, await machine());
  const parts = Object.keys(kit.files)
    .filter((name) => name.endsWith("/plan.json"))
    .map((name) => name.slice(0, -"/plan.json".length));
  const sets = ["models", "blocks"].flatMap((kind) => parts.filter((p) => p.startsWith(`${kind}/`)));
  const steps = sets.length + Object.keys(kit.models).length;
  const done = () => show.share((Object.keys(said.sets).length + Object.keys(said.models).length) / steps);
  const ask = engine(asked);

  for (const part of sets.filter((name) => name.startsWith("models/"))) {
    show.say("Timing the models.");
    said.sets[part] ??= await set(ask, part);
    done();
  }
  for (const [key, about] of Object.entries(kit.models)) {
    show.say("Asking the models.");
    said.models[key] ??= await answers(ask, about, kit.device.batch, asked.channels_last);
    show.model([key, ...(await row(said, key, about))]);
    done();
  }
  const blocks = sets.filter((name) => name.startsWith("blocks/"));
  said.done = blocks.every((part) => part in said.sets);
  let heard = await sent(said, show);
  for (const [index, part] of blocks.entries()) {
    if (part in said.sets) continue;
    show.say(`Timing sub-blocks: set ${index + 1} of ${blocks.length}.`);
    said.sets[part] = await set(ask, part);
    said.done = index === blocks.length - 1;
    heard = await sent(said, show);
    done();
  }
  show.say(
    heard
      ? "Done. The results are in the folder of the kit."
      : "Done. Save browser.json, and give it to page.py in the folder of the kit.",
  );
}

/** What was measured before in this browser with this kit, or nothing yet. */
async function begun(kit, found) {
  const said = {
    format: "vitpareto browser",
    version: 1,
    kit: kit.digest,
    machine: found,
    done: false,
    sets: {},
    models: {},
  };
  const before = await json("browser.json").catch(() => null);
  const same = before?.kit === kit.digest && JSON.stringify(before.machine) === JSON.stringify(found);
  return same ? before : said;
}

/** Sends what was measured to the server of the kit; whether that took it. */
async function sent(said, show) {
  const text = JSON.stringify(said);
  show.save(text);
  const reply = await fetch("results", { method: "POST", body: text }).catch(() => null);
  if (reply?.status === 400) throw new Error(await reply.text());
  return reply?.ok ?? false;
}

/** What a page is told of its machine, in the words of the kit. */
async function machine() {
  const hints = ["architecture", "bitness", "model", "platformVersion", "fullVersionList"];
  const data = navigator.userAgentData;
  const told = data ? await data.getHighEntropyValues(hints) : {};
  const brands = (told.fullVersionList ?? []).filter(({ brand }) => !/not.{0,2}a.{0,2}brand/i.test(brand));
  const own = brands.find(({ brand }) => brand !== "Chromium") ?? brands[0];
  const [, name, version] =
    navigator.userAgent.match(/(Edg|Firefox|Chrome|Version)\/([\d.]+)/) ?? ["", "browser", ""];
  const chip = [told.architecture, told.bitness].filter(Boolean).join(" ");
  return {
    host: own ? `${own.brand} ${own.version}` : `${name === "Version" ? "Safari" : name} ${version}`,
    processor: told.model || chip || navigator.platform,
    cores: navigator.hardwareConcurrency,
    system: [told.platform ?? navigator.platform, told.platformVersion].filter(Boolean).join(" "),
  };
}

/**
 * A function that has a job done by an engine in a frame, and gives its answer.
 *
 * The job "renew" begins a new one, with memory that nothing has used.
 */
function engine(asked) {
  let give = null;
  let take = null;
  window.next = (answer) => {
    take(answer);
    return new Promise((resolve) => (give = resolve));
  };
  const answered = (start) =>
    new Promise((resolve) => {
      take = resolve;
      start();
    }).then(read);
  const begin = () => {
    const frame = document.createElement("iframe");
    frame.src = `page.html?${new URLSearchParams(asked)}`;
    document.getElementById("frame").replaceChildren(frame);
  };
  return (job, about = {}, content = new Uint8Array()) =>
    answered(() => {
      if (job === "renew") return begin();
      const head = `${JSON.stringify({ do: job, ...about })}\n`;
      give(new Blob([head, content]).arrayBuffer());
    });
}

/** An engine's answer: what it tells, and the bytes that go with it. */
async function read(answer) {
  const all = new Uint8Array(await answer.arrayBuffer());
  const end = all.indexOf(10);
  const about = JSON.parse(new TextDecoder().decode(all.subarray(0, end)));
  if (about.error !== undefined) throw new Error(about.error.split("\n")[0]);
  return { ...about, content: all.slice(end + 1) };
}

/** Samples of the graphs of a set in turn, and the memory of the first of them. */
async function set(ask, part) {
  const plan = await json(`${part}/plan.json`);
  const refused = {};
  const graphs = [];
  await ask("renew");
  for (const id of shuffled(plan.graphs.keys())) {
    try {
      await ask("open", { id }, await bytes(`${part}/${plan.graphs[id].file}`));
      await ask("take", { id }, random(plan.graphs[id].shape));
      graphs.push({ id, ...(await warmUp(ask, id, plan.heat_ms)) });
    } catch (error) {
      refused[id] = error.message;
    }
  }
  const samples = [];
  for (let round = 0; round < plan.rounds && graphs.length; round++) {
    const sample = new Array(graphs.length);
    for (const index of shuffled(graphs.keys())) {
      const { id, heats, loops } = graphs[index];
      [sample[index]] = (await ask("time", { id, readings: 1, runs: loops, before: heats })).ms;
    }
    samples.push(sample);
  }
  const memory = [];
  for (let id = 0; id < plan.footprints; id++) {
    memory.push(id in refused ? 0 : await growth(ask, await bytes(`${part}/${plan.graphs[id].file}`)));
  }
  return {
    live: graphs.map(({ id }) => id),
    samples_ms: samples,
    stable: graphs.map(({ stable }) => stable),
    refused,
    memory_mb: memory,
    unix_time: Math.floor(Date.now() / 1000),
  };
}

/** Runs a graph until two successive levels agree; how often it is to be run for a sample. */
async function warmUp(ask, id, heat) {
  let last = Infinity;
  let stable = false;
  for (let turn = 0; turn < MAX_WARM_UP && !stable; turn++) {
    const { ms } = await ask("time", { id, readings: 3, runs: 1, before: turn ? 0 : 1 });
    const level = ms.sort((a, b) => a - b)[1];
    stable = Math.abs(level - last) < STABLE * level;
    last = stable ? Math.max(level, last) : level;
  }
  const often = (least, ms) => Math.min(Math.max(least, Math.round(ms / Math.max(last, 1e-6))), MOST_LOOPS);
  return { stable, heats: often(HEAT_RUNS, heat), loops: often(LOOP_RUNS, LOOP_MS) };
}

/** Megabytes by which memory grows when a model is opened and run. */
async function growth(ask, content) {
  await ask("renew");
  const before = (await ask("peak")).mb;
  const { shape } = await ask("open", { id: 0 }, content);
  for (let run = 0; run < MEMORY_RUNS; run++) {
    await ask("run", { id: 0 }, new Float32Array(product(shape)));
  }
  return (await ask("peak")).mb - before;
}

/** Answers of a model to the images of the kit, and the operators that it executes. */
async function answers(ask, about, batch, channelsLast) {
  const content = await bytes(about.file);
  const images = npy(await bytes(about.input));
  const [count, ...shape] = images.shape;
  const size = product(shape);
  const filled = new Float32Array(Math.ceil(count / batch) * batch * size);
  for (let start = 0; start < filled.length; start += images.values.length) {
    filled.set(images.values.subarray(0, filled.length - start), start);
  }
  try {
    await ask("renew");
    await ask("open", { id: 0 }, content);
    const given = channelsLast ? interleaved(filled, shape) : filled;
    const found = await ask("run", { id: 0 }, given);
    const classes = found.shape.at(-1);
    const values = found.content.slice(0, 4 * count * classes);
    const { names } = await ask("kernels", {}, content);
    const kernels = {};
    for (const name of names) kernels[name] = (kernels[name] ?? 0) + 1;
    return { answers: { shape: [count, classes], float32: base64(values) }, kernels };
  } catch {
    return { answers: { shape: [0, 0], float32: "" }, kernels: {} }; // the timing says why
  }
}

/** Of a model: its median in ms, its memory, and the share of images with the expected class. */
async function row(said, key, about) {
  const of = said.sets[about.set];
  const place = of.live.indexOf(about.index);
  if (place < 0) return [of.refused[about.index], "", ""];
  const ms = of.samples_ms.map((sample) => sample[place]).sort((a, b) => a - b);
  const found = floats(Uint8Array.from(atob(said.models[key].answers.float32), (c) => c.charCodeAt(0)));
  const wanted = npy(await bytes(about.expected));
  const classes = wanted.shape[1];
  const best = (values, image) => {
    const some = values.subarray(image * classes, (image + 1) * classes);
    return some.indexOf(Math.max(...some));
  };
  const count = found.length / classes;
  let same = 0;
  for (let image = 0; image < count; image++) same += best(found, image) === best(wanted.values, image);
  const memory = of.memory_mb[about.index]?.toFixed(1) ?? "";
  return [ms[ms.length >> 1].toFixed(4), memory, count ? `${((100 * same) / count).toFixed(1)}%` : ""];
}

/** Images of channels, height and width with their channels last. */
function interleaved(values, [channels, height, width]) {
  const pixels = height * width;
  const laid = new Float32Array(values.length);
  for (let start = 0; start < values.length; start += channels * pixels) {
    for (let c = 0; c < channels; c++) {
      for (let p = 0; p < pixels; p++) laid[start + p * channels + c] = values[start + c * pixels + p];
    }
  }
  return laid;
}

/** An array of float32 as NumPy writes it: its shape and values. */
function npy(content) {
  const head = 10 + new DataView(content.buffer).getUint16(8, true);
  const [, shape] = new TextDecoder().decode(content.subarray(10, head)).match(/'shape': \(([^)]*)\)/);
  return { shape: shape.split(",").filter((n) => n.trim()).map(Number), values: floats(content.slice(head)) };
}

function floats(content) {
  return new Float32Array(content.buffer, content.byteOffset, content.length >> 2);
}

function base64(content) {
  let text = "";
  for (let i = 0; i < content.length; i += 0x8000) {
    text += String.fromCharCode(...content.subarray(i, i + 0x8000));
  }
  return btoa(text);
}

/** Values like those of a normal distribution, by Box and Muller. */
function random(shape) {
  const normal = () => Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
  return Float32Array.from({ length: product(shape) }, normal);
}

function shuffled(indices) {
  const all = [...indices];
  for (let i = all.length - 1; i > 0; i--) {
    const j = Math.floor(Math.random() * (i + 1));
    [all[i], all[j]] = [all[j], all[i]];
  }
  return all;
}

function product(shape) {
  return shape.reduce((a, b) => a * b, 1);
}

async function json(name) {
  return (await found(name)).json();
}

async function bytes(name) {
  return new Uint8Array(await (await found(name)).arrayBuffer());
}

async function found(name) {
  const reply = await fetch(name, { cache: "no-store" });
  if (!reply.ok) throw new Error(`${name}: ${reply.status} ${reply.statusText}`);
  return reply;
}
