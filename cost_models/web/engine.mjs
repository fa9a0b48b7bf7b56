// Engine: runs ONNX models in onnxruntime-web for a program that asks over HTTP.
//
// It posts the answer to the last job and is given the next one. Both are a line of JSON, then
// bytes. Node.js and pages of a browser run the same.

const LEAST_MS = 0.25; // of what is timed: clocks of browsers tick every 5 us
// Functions begin in a baseline compiler and are compiled again, beside the runs, when they have
// run for a while. A model has settled when so many bursts in a row were no faster than the best.
const BURST_MS = 20;
const BURSTS = 3;
const FASTER = 0.97;
const MOST_MS = 3000;
const Memory = WebAssembly.Memory;
let memory = null; // of the WebAssembly module, which has no other way to tell its size

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

/**
 * Answers jobs until `renew` is asked for or whoever asks is gone.
 *
 * `provider` executes models, "wasm" or "webgpu"; `lacks` says why it cannot; `clock` tells
 * milliseconds; `settles` says whether models get faster while they run; `listen` gives a function
 * all that is printed, until what it returns is called; `renew` begins a new engine in place of
 * this one; `leave` ends the process.
 */
export async function serve(begun) {
  const { ort, url, provider, lacks, threads, clock, settles, listen, renew, leave } = begun;
  const sessions = new Map();
  ort.env.wasm.numThreads = threads;
  ort.env.logLevel = "error";

  const options = (more) => ({ executionProviders: [provider], logSeverityLevel: 4, ...more });
  const open = (bytes, more) => ort.InferenceSession.create(bytes, options(more));
  const bytesOf = (session) => session.inputMetadata[0].shape.reduce((a, b) => a * b, 4);
  const given = (session, bytes) => {
    const [{ shape }] = session.inputMetadata;
    const values = new Float32Array(bytes.slice().buffer); // aligned
    return { [session.inputNames[0]]: new ort.Tensor("float32", values, shape) };
  };

  const jobs = {
    async open({ id }, bytes) {
      const session = await open(bytes);
      sessions.set(id, { session, feeds: null });
      return [{ shape: session.inputMetadata[0].shape }];
    },
    async close({ ids }) {
      for (const id of ids) {
        await sessions.get(id).session.release();
        sessions.delete(id);
      }
      return [{}];
    },
    /** One run after the other, of as many inputs as there are. */
    async run({ id }, bytes) {
      const { session } = sessions.get(id);
      const size = bytesOf(session);
      const answers = [];
      let shape = [];
      for (let start = 0; start < bytes.length; start += size) {
        const outputs = await session.run(given(session, bytes.subarray(start, start + size)));
        const { data, dims } = outputs[session.outputNames[0]];
        shape = dims;
        answers.push(new Uint8Array(data.buffer, data.byteOffset, data.byteLength).slice());
      }
      return [{ shape }, new Blob(answers)];
    },
    async take({ id }, bytes) {
      const entry = sessions.get(id);
      entry.feeds = given(entry.session, bytes);
      if (settles) await settled(() => entry.session.run(entry.feeds), clock);
      return [{}];
    },
    /**
     * Milliseconds of a run in each reading of so many runs, after runs that are not timed.
     *
     * The median of the reading's pieces: no clock of a page leaves out what other programs do
     * while they have the core.
     */
    async time({ id, readings, runs, before }) {
      const { session, feeds } = sessions.get(id);
      const run = () => session.run(feeds);
      for (let i = 0; i < before; i++) await run();
      const ms = [];
      for (let reading = 0; reading < readings; reading++) {
        const pieces = [];
        for (let done = 0; done < runs; ) {
          const piece = await timed(run, LEAST_MS, clock);
          pieces.push(piece.ms);
          done += piece.runs;
        }
        pieces.sort((a, b) => a - b);
        ms.push((pieces[(pieces.length - 1) >> 1] + pieces[pieces.length >> 1]) / 2);
      }
      return [{ ms }];
    },
    /** How often each operator is executed, as ONNX Runtime's profiler prints it. */
    async kernels(_, bytes) {
      const session = await open(bytes, { enableProfiling: true });
      await session.run(given(session, new Uint8Array(bytesOf(session))));
      const lines = [];
      const unheard = listen((line) => lines.push(line));
      session.endProfiling();
      unheard();
      await session.release();
      const names = lines.join("\n").matchAll(/"op_name"\s*:\s*"([^"]+)"/g);
      return [{ names: Array.from(names, ([, name]) => name) }];
    },
    /** Megabytes up to the last byte that was ever written: memory begins as zeros. */
    async peak() {
      const words = new Uint32Array(memory.buffer);
      let last = words.length - 1;
      while (last > 0 && words[last] === 0) last--;
      return [{ mb: ((last + 1) * 4) / 1e6 }];
    },
    async wait() {
      return [{ waited: true }];
    },
  };

  // What the runtime takes for itself is there before the first model.
  const refused = lacks ? null : await open(new Uint8Array(4)).catch((error) => error);
  let answer = packed([memory ? { ready: true } : { error: `${lacks || refused.message}` }]);
  for (;;) {
    let said;
    try {
      const reply = await fetch(`${url}next`, { method: "POST", body: answer });
      said = new Uint8Array(await reply.arrayBuffer());
    } catch {
      return leave();
    }
    const end = said.indexOf(10);
    const job = JSON.parse(new TextDecoder().decode(said.subarray(0, end)));
    if (job.do === "renew") return renew();
    try {
      answer = packed(await jobs[job.do](job, said.subarray(end + 1)));
    } catch (error) {
      answer = packed([{ error: `${error?.message ?? error}` }]);
    }
  }
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
