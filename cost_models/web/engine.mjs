// Engine: runs models in a runtime of the web for a program that asks over HTTP, or for a page.
//
// It hands over the answer to the last job and is given the next one. Both are a line of JSON, then
// bytes. Node.js and pages of a browser run the same. A runtime is a file beside this one, whose
// `load` gives what opens models.

const LEAST_MS = 0.25; // of what is timed
const LEAST_TICKS = 50; // of its clock in it: every 5 us in a page that is isolated, up to 1 ms in others
// Functions begin in a baseline compiler and are compiled again, beside the runs, when they have
// run for a while. A model has settled when so many bursts in a row were no faster than the best.
const BURST_MS = 20;
const BURSTS = 3;
const FASTER = 0.97;
const MOST_MS = 3000;
const Memory = WebAssembly.Memory;
let memory = null; // of a WebAssembly module that is given one, and has no other way to tell its size

WebAssembly.Memory = class extends Memory {
  constructor(asked) {
    super(asked);
    memory = this;
  }
};

/** Why WebGPU cannot execute models here; empty where it can. */
export async function lacking(software) {
  const adapter = await navigator.gpu?.requestAdapter();
  if (!adapter) return "it has no adapter for WebGPU";
  return adapter.info.isFallbackAdapter && !software
    ? "it has no adapter for WebGPU but one that computes on the processor"
    : "";
}

/** What hands an answer over to a program's address, and is given the next job. */
export function poster(url) {
  return async (answer) => {
    const reply = await fetch(`${url}next`, { method: "POST", body: answer });
    return reply.arrayBuffer();
  };
}

/**
 * Answers jobs until `renew` is asked for or whoever asks is gone.
 *
 * `load` gives the runtime; `next` takes an answer and gives the next job; `lacks` says why models
 * cannot be executed; `clock` tells milliseconds; `settles` says whether models get faster while
 * they run; `listen` gives a function all that is printed, until what it returns is called; `renew`
 * begins a new engine in place of this one; `leave` ends the process.
 */
export async function serve({ load, next, lacks, clock, settles, listen, renew, leave }) {
  const models = new Map();
  let runtime = null;
  let refused = lacks;
  try {
    if (!lacks) {
      runtime = await load();
      await runtime.open(new Uint8Array(4)); // what it takes for itself is there before any model
    }
  } catch (error) {
    refused = words(error);
  }
  const buffer = () => runtime?.memory?.() ?? memory?.buffer;
  const sizeOf = (model) => model.shape.reduce((a, b) => a * b, 4);
  const given = (model, bytes) => model.given(new Float32Array(bytes.slice().buffer)); // aligned

  const jobs = {
    async open({ id }, bytes) {
      const model = await runtime.open(bytes);
      models.set(id, { model, feeds: null });
      return [{ shape: model.shape }];
    },
    async close({ ids }) {
      for (const id of ids) {
        await models.get(id).model.close();
        models.delete(id);
      }
      return [{}];
    },
    /** One run after the other, of as many inputs as there are. */
    async run({ id }, bytes) {
      const { model } = models.get(id);
      const size = sizeOf(model);
      const answers = [];
      let shape = [];
      for (let start = 0; start < bytes.length; start += size) {
        const { data, dims } = await model.run(given(model, bytes.subarray(start, start + size)));
        shape = dims;
        answers.push(new Uint8Array(data.buffer, data.byteOffset, data.byteLength).slice());
      }
      return [{ shape }, new Blob(answers)];
    },
    async take({ id }, bytes) {
      const entry = models.get(id);
      entry.feeds = given(entry.model, bytes);
      if (settles) await settled(() => entry.model.run(entry.feeds), clock);
      return [{}];
    },
    /**
     * Milliseconds of a run in each reading of so many runs, after runs that are not timed.
     *
     * The median of the reading's pieces: no clock of a page leaves out what other programs do
     * while they have the core.
     */
    async time({ id, readings, runs, before }) {
      const { model, feeds } = models.get(id);
      const run = () => model.run(feeds);
      for (let i = 0; i < before; i++) await run();
      const least = Math.max(LEAST_MS, LEAST_TICKS * tick(clock));
      const ms = [];
      for (let reading = 0; reading < readings; reading++) {
        const pieces = [];
        for (let done = 0; done < runs; ) {
          const piece = await timed(run, least, clock);
          pieces.push(piece.ms);
          done += piece.runs;
        }
        pieces.sort((a, b) => a - b);
        ms.push((pieces[(pieces.length - 1) >> 1] + pieces[pieces.length >> 1]) / 2);
      }
      return [{ ms }];
    },
    /** Names of the operators that are executed, where the runtime tells them. */
    async kernels(_, bytes) {
      return [{ names: (await runtime.kernels?.(bytes, listen)) ?? [] }];
    },
    /** Megabytes up to the last byte that was ever written: memory begins as zeros. */
    async peak() {
      const values = new Uint32Array(buffer());
      let last = values.length - 1;
      while (last > 0 && values[last] === 0) last--;
      return [{ mb: ((last + 1) * 4) / 1e6 }];
    },
    async wait() {
      return [{ waited: true }];
    },
  };

  let answer = packed([buffer() ? { ready: true } : { error: refused }]);
  for (;;) {
    let said;
    try {
      said = new Uint8Array(await next(answer));
    } catch {
      return leave();
    }
    const end = said.indexOf(10);
    const job = JSON.parse(new TextDecoder().decode(said.subarray(0, end)));
    if (job.do === "renew") return renew();
    try {
      answer = packed(await jobs[job.do](job, said.subarray(end + 1)));
    } catch (error) {
      answer = packed([{ error: words(error) }]);
    }
  }
}

function words(error) {
  return `${error?.message ?? error}`;
}

/** Milliseconds from one tick of a clock to the next. */
function tick(clock) {
  let least = Infinity;
  for (let i = 0; i < 3; i++) {
    const start = clock();
    let now = start;
    while (now === start) now = clock();
    least = Math.min(least, now - start);
  }
  return least;
}

/** How often something ran in so many milliseconds or a little more, and how long a run took. */
async function timed(run, least, clock) {
  const start = clock();
  let runs = 0;
  let passed = 0;
  do {
    await run();
    runs++;
    passed = clock() - start;
  } while (passed < least);
  return { runs, ms: passed / runs };
}

async function settled(run, clock) {
  let best = Infinity;
  let since = 0;
  const end = clock() + MOST_MS;
  while (since < BURSTS && clock() < end) {
    const { ms } = await timed(run, BURST_MS, clock);
    since = ms < FASTER * best ? 0 : since + 1;
    best = Math.min(best, ms);
  }
}

function packed([about, bytes]) {
  return new Blob([`${JSON.stringify(about)}\n`, ...(bytes ? [bytes] : [])]);
}
