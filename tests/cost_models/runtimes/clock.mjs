// Times a run of fixed work by a clock that ticks every so many milliseconds: node clock.mjs MS.
import { serve } from "../../../cost_models/web/engine.mjs";

const used = () => {
  const { user, system } = process.cpuUsage(); // which others on the machine do not change
  return (user + system) / 1e3;
};
const run = async () => {
  const end = used() + 0.37;
  while (used() < end);
  return { data: new Float32Array(1), dims: [1] };
};
const model = { shape: [1], given: (values) => values, run, close() {} };
const jobs = [
  { do: "open", id: 0 },
  { do: "take", id: 0 },
  { do: "time", id: 0, readings: 5, runs: 3, before: 50 },
];
let said = "";
await serve({
  load: async () => ({ memory: () => new ArrayBuffer(8), open: async () => model }),
  lacks: "",
  clock: () => Math.floor(used() / process.argv[2]) * process.argv[2],
  settles: false,
  leave: () => console.log(said),
  async next(answer) {
    said = await answer.text();
    const job = jobs.shift();
    if (!job) throw new Error("whoever asks is gone");
    return new Blob([`${JSON.stringify(job)}\n`, new Float32Array(1)]).arrayBuffer();
  },
});
