// onnxruntime-web: opens ONNX models, for `engine.mjs` and for the page that is delivered.

/**
 * The runtime of a script's address.
 *
 * `folder` is the address of its WebAssembly, where that is not found beside the script; `provider`
 * executes models, "wasm" or "webgpu".
 */
export async function load({ script, folder, provider, threads }) {
  const ort = await import(script);
  if (folder) ort.env.wasm.wasmPaths = folder;
  ort.env.wasm.numThreads = threads;
  ort.env.logLevel = "error";

  const create = (bytes, more) =>
    ort.InferenceSession.create(bytes, { executionProviders: [provider], logSeverityLevel: 4, ...more });
  const fed = (session, values) => {
    const [{ name, shape }] = session.inputMetadata;
    return { [name]: new ort.Tensor("float32", values, shape) };
  };
  return {
    /** A model: the shape of its input, what `run` takes of values, and their answer. */
    async open(bytes) {
      const session = await create(bytes);
      const answer = session.outputNames[0];
      return {
        shape: session.inputMetadata[0].shape,
        given: (values) => fed(session, values),
        run: async (given) => (await session.run(given))[answer],
        close: () => session.release(),
      };
    },
    /** Names of the operators that are executed, as ONNX Runtime's profiler prints them. */
    async kernels(bytes, listen) {
      const session = await create(bytes, { enableProfiling: true });
      const size = session.inputMetadata[0].shape.reduce((a, b) => a * b, 1);
      await session.run(fed(session, new Float32Array(size)));
      const lines = [];
      const unheard = listen((line) => lines.push(line));
      session.endProfiling();
      unheard();
      await session.release();
      const names = lines.join("\n").matchAll(/"op_name"\s*:\s*"([^"]+)"/g);
      return Array.from(names, ([, name]) => name);
    },
  };
}
