// LiteRT.js: opens TFLite models, for `engine.mjs` and for the page that is delivered.

/**
 * The runtime of a script's address; `folder` is the address of its WebAssembly.
 *
 * More than one thread needs a page that is cross-origin isolated.
 */
export async function load({ script, folder, threads }) {
  const { loadLiteRt, Tensor } = await import(script);
  const litert = await loadLiteRt(folder, { threads: threads > 1 });
  const options = { accelerator: "wasm", cpuOptions: { numThreads: threads } };
  return {
    /** All that WebAssembly has for itself. */
    memory: () => litert.liteRtWasm.HEAPU8.buffer,
    /** A model: the shape of its input, what `run` takes of values, and their answer. */
    async open(bytes) {
      const model = await litert.loadAndCompile(bytes, options);
      const shape = Array.from(model.getInputDetails()[0].shape);
      return {
        shape,
        given: (values) => values,
        // Values go into WebAssembly and come out of it at each run, as onnxruntime-web does it.
        async run(values) {
          const input = new Tensor(values, shape);
          try {
            const outputs = await model.run([input]);
            const answer = {
              data: outputs[0].toTypedArray(),
              dims: Array.from(outputs[0].type.layout.dimensions),
            };
            for (const output of outputs) output.delete();
            return answer;
          } finally {
            input.delete();
          }
        },
        close: () => model.delete(),
      };
    },
  };
}
