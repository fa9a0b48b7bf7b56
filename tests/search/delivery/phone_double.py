"""Doubles of a phone and of its benchmark program, where there is no phone.

The program runs the graph in LiteRT and prints what benchmark_model of TensorFlow Lite prints.
"""

import sys
from pathlib import Path

ADB = """#!/bin/sh
# A phone whose files are in $PHONE.
there() { echo "$1" | sed "s#/data/local/tmp#$PHONE#g"; }
case $1 in
  get-state) echo device ;;
  push) cp "$2" "$(there "$3")" ;;
  pull) cp "$(there "$2")" "$3" ;;
  shell)
    shift
    case "$*" in
      getprop) cat "$PHONE/getprop" ;;
      "getprop ro.build.fingerprint") echo google/shiba ;;
      "cat /proc/cpuinfo") cat "$PHONE/cpuinfo" ;;
      *) sh -c "$(there "$*")" ;;
    esac ;;
esac
"""
GETPROP = """[ro.build.version.release]: [15]
[ro.product.cpu.abi]: [arm64-v8a]
[ro.product.model]: [Pixel 8]
[ro.soc.model]: [Tensor G3]
"""
CPUINFO = """processor\t: 0
Features\t: fp asimd asimddp i8mm
processor\t: 1
Features\t: fp asimd asimddp i8mm
"""
PROGRAM = f"#!{sys.executable}\nimport runpy\nrunpy.run_path({__file__!r}, run_name='__main__')\n"


def install(folder: Path) -> Path:
    """Make adb in a folder, and a phone's files; path of the benchmark program."""
    phone = folder / "phone"
    phone.mkdir()
    (phone / "getprop").write_text(GETPROP.replace("\n", "\r\n"))
    (phone / "cpuinfo").write_text(CPUINFO)
    for name, text in (("adb", ADB), ("benchmark_model", PROGRAM)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return folder / "benchmark_model"


def main() -> None:
    """Run a graph as benchmark_model does."""
    import time

    import numpy as np
    from ai_edge_litert.interpreter import Interpreter

    options = dict(word.removeprefix("--").split("=", 1) for word in sys.argv[1:])
    interpreter = Interpreter(options["graph"], num_threads=int(options["num_threads"]))
    interpreter.allocate_tensors()
    (given,) = interpreter.get_input_details()
    if source := options.get("input_layer_value_files"):
        assert options["input_layer_shape"] == ",".join(map(str, given["shape"]))
        raw = np.fromfile(source.partition(":")[2], np.float32)
        interpreter.set_tensor(given["index"], raw.reshape(given["shape"]))
    runs: list[float] = []
    for _ in range(int(options["num_runs"])):
        begun = time.perf_counter()
        interpreter.invoke()
        runs.append(1e6 * (time.perf_counter() - begun))
    us = np.array(runs)
    printed = (
        f"count={len(us)} first={us[0]:.0f} curr={us[-1]:.0f} min={us.min():.0f} "
        f"max={us.max():.0f} avg={us.mean():.6g} std={us.std():.0f}\n\n"
        f"Inference timings in us: Init: 5685, First inference: {us[0]:.0f}, "
        f"Warmup (avg): {us.mean():.6g}, Inference (avg): {us.mean():.6g}\n"
        "Memory footprint delta from the start of the tool (MB): init=1.5 overall=2.5\n"
    )
    sys.stdout.write(printed)
    if path := options.get("output_filepath"):
        interpreter.get_tensor(interpreter.get_output_details()[0]["index"]).tofile(path)


if __name__ == "__main__":
    main()
