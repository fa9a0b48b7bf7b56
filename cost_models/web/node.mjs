// Node.js: a thread that is the engine, and is begun anew when fresh memory is asked for.
//
// Called as `node node.mjs URL DIST THREADS`.

import fs from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import v8 from "node:v8";
import { Worker, isMainThread, parentPort, workerData } from "node:worker_threads";

if (isMainThread) {
  const [url, dist, threads] = process.argv.slice(2);
  // The optimizing compiler at a function's first call. By default it comes after some hundred
  // runs, and half of a small model's time would be how far that is.
  v8.setFlagsFromString("--no-liftoff");
  v8.setFlagsFromString("--wasm-lazy-compilation");
  const file = fs.readFileSync(join(dist, "ort-wasm-simd-threaded.wasm"));
  globalThis.compiled = await WebAssembly.compile(file); // its functions stay as long as it does
  const begin = () => {
    const options = { workerData: { url, dist, threads: Number(threads) } };
    const engine = new Worker(new URL(import.meta.url), options);
    engine.on("message", () => process.exit(0));
    engine.on("exit", begin);
  };
  begin();
} else {
  const { url, dist, threads } = workerData;
  const { poster, serve } = await import("./engine.mjs");
  const { load } = await import("./onnxruntime.mjs");
  const script = pathToFileURL(join(dist, "ort.node.min.mjs"));
  // One thread works as long as its run takes on an idle machine, however often others have the
  // core in between; in milliseconds.
  const used = () => {
    const { user, system } = process.cpuUsage();
    return (user + system) / 1e3;
  };
  const clock = threads === 1 ? used : () => performance.now();
  const listen = (hear) => {
    const write = fs.writeSync;
    fs.writeSync = (_, text) => hear(text);
    return () => {
      fs.writeSync = write;
    };
  };
  const renew = () => process.exit(0); // of this thread
  const leave = () => parentPort.postMessage("gone");
  const ready = () => load({ script, provider: "wasm", threads });
  const [lacks, settles] = ["", false];
  await serve({ load: ready, next: poster(url), lacks, clock, settles, listen, renew, leave });
}
