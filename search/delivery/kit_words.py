"""Kit words: what to type on the machine that a kit goes to, as README.txt and as run.sh."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...cost_models import Device
from .manifest import Manifest

INPUT = "images"  # name of the one input, as far as the benchmark program cares
FOLDER = "/data/local/tmp/vitpareto"  # on the phone

README = """Kit of the run {run}: {count} for {device}, to be measured there.
{machine}

{how}
BACK HERE, with the whole folder as DIR:

    vitpareto verify {path} --measured DIR
    vitpareto calibrate DEVICE.yaml --space {path}/space.yaml --table DIR --out MODEL.json

The first compares answers, machine and files, and writes what was measured into the
run: only then it says verified, on that machine. It takes results of {device} alone:
    {identity}
The second makes a cost model of the sub-blocks, of whatever machine this folder was
measured on; DEVICE.yaml says runtime, provider, threads and recipes as for {device}.
To search for that machine: vitpareto search CONFIG --set device.name=DEVICE.yaml
--set device.cost_model=MODEL.json

kit.json has the hash of every file. Edit none.
"""
ON_MACHINE = """\
ON THE MACHINE ITSELF, with Python 3.10 or later and {runtime} alone:

    python -m venv env
    env/bin/pip install numpy {package}
    env/bin/python run.py             # all; or run.py --models, a minute or less

Keep it quiet, and cool. What is stopped goes on with the same command. It writes
measured.json, measured.csv and measured/, and a result.json in each set.
{phone}"""
IN_BROWSER = """\
IN THE BROWSER, whose page a computer with Python 3.10 or later and numpy serves:

    python -m venv env
    env/bin/pip install numpy
    env/bin/python page.py            # or page.py --port 8080

Open the address that it prints in the browser that the models are for. For one on
a phone, connected by USB, give it that address first (apt install adb):

    adb reverse tcp:8000 tcp:8000

Keep the page in front, and the machine quiet and cool. What is stopped goes on with
the same command and page. It ends when all is measured, and writes measured.json,
measured.csv and measured/, and a result.json in each set.

Any other web server shows the page as well, with a coarser clock, so that it takes
longer. It then gives a file to save, of which the same results are made by

    env/bin/python page.py browser.json

or, where it lies in this folder, back here with DIR/browser.json in place of DIR.
"""
PHONE = """
ON A PHONE WITHOUT PYTHON, from a computer with adb (apt install adb) and numpy, with the
benchmark_model that LiteRT's makers publish for Android, or one built with bazel from
tensorflow/lite/tools/benchmark:

    ./run.sh benchmark_model

which, for each graph and for images whose answers are compared, runs

    adb push benchmark_model GRAPH.tflite {folder}/
    adb shell getprop > phone/getprop.txt
    adb shell cat /proc/cpuinfo > phone/cpuinfo.txt
    adb shell {command}
    adb pull {folder}/answer.bin phone/answers/KEY-0.bin
    python3 phone.py benchmark_model

The last makes measured.json of what was saved. The benchmark program prints no version:
the beginning of its hash is the version of the runtime.
"""
SCRIPT = """#!/bin/sh
# Measures this kit on a phone without Python over adb: ./run.sh BENCHMARK_MODEL
# BENCHMARK_MODEL is that of LiteRT for the phone. Stopped, the same command goes on.
set -eu
BINARY=${{1:-benchmark_model}}
case $BINARY in /*) ;; *) BINARY=$PWD/$BINARY ;; esac
cd "$(dirname "$0")"
THERE={folder}
stop() {{ echo "run.sh: $1" >&2; exit 2; }}
command -v adb > /dev/null || stop "adb is not installed: apt install adb"
[ -f "$BINARY" ] || stop "$BINARY: no such file; README.txt says where it is from"
adb get-state > /dev/null || stop "adb sees no phone, or more than one"
mkdir -p phone/answers
NOW="$(adb shell getprop ro.build.fingerprint) $(cksum < "$BINARY")"
[ -f phone/of.txt ] || echo "$NOW" > phone/of.txt
[ "$NOW" = "$(cat phone/of.txt)" ] || stop "phone/ is of another phone or program: remove it"
adb shell mkdir -p "$THERE"
adb push "$BINARY" "$THERE/benchmark_model" > /dev/null
adb shell chmod 755 "$THERE/benchmark_model"
adb shell getprop > phone/getprop.txt
adb shell cat /proc/cpuinfo > phone/cpuinfo.txt

# time_graph FILE NAME: what the benchmark program prints goes to phone/NAME.txt
time_graph() {{
  grep -q "Inference (avg)" "phone/$2.txt" 2> /dev/null && return
  adb push "$1" "$THERE/graph.tflite" > /dev/null
  adb shell "cd $THERE && {command}" < /dev/null > "phone/$2.txt" 2>&1 \\
    || echo "run.sh: $1 was refused, see phone/$2.txt" >&2
}}

# ask MODEL KEY SIZE SHAPE: the answers to the first images go to phone/answers/KEY-N.bin
ask() {{
  adb push "$1" "$THERE/graph.tflite" > /dev/null
  for input in inputs/"$3"/*.bin; do
    number=$(basename "$input" .bin)
    rm -f "phone/answers/$2-$number.bin"
    adb push "$input" "$THERE/input.bin" > /dev/null
    adb shell "cd $THERE && rm -f answer.bin && {one} \\
      --input_layer={input} --input_layer_shape=$4 \\
      --input_layer_value_files={input}:input.bin --output_filepath=answer.bin" \\
      < /dev/null > "phone/answers/$2-$number.txt" 2>&1 || true
    adb pull "$THERE/answer.bin" "phone/answers/$2-$number.bin" > /dev/null 2>&1 \\
      || echo "run.sh: no answer of $2, see phone/answers/$2-$number.txt" >&2
  done
}}

for set in models/* blocks/*; do
  [ -d "$set" ] || continue
  for graph in "$set"/*.tflite; do
    time_graph "$graph" "$(dirname "$graph" | tr / -)-$(basename "$graph" .tflite)"
  done
done
{questions}
python3 phone.py "$BINARY"
"""


def read_me(manifest: Manifest, how: str, run: Path) -> str:
    """README.txt of a kit.

    Args:
        manifest: of one of its models.
        how: it is measured there.
        run: folder of the run.
    """
    return README.format(
        run=run.resolve().name,
        count="the delivered models",
        device=manifest.device.name,
        machine=f"It is promised for {manifest.machine}.",
        how=how,
        path=run,
        identity=", ".join(f"{name} {value}" for name, value in manifest.identity.items() if value),
    )


def on_machine(manifest: Manifest, package: str, on_phone: bool) -> str:
    """How a kit is measured by Python.

    Args:
        manifest: of one of its models.
        package: what pip installs of the runtime.
        on_phone: whether a phone without Python can run it, too.
    """
    device, version = manifest.device, str(manifest.identity.get("version", ""))
    pinned = f"{package}=={version}" if version[:1].isdigit() else package
    phone = PHONE.format(folder=FOLDER, command=benchmark(device, "GRAPH.tflite"))
    return ON_MACHINE.format(
        runtime=device.runtime, package=pinned, phone=phone if on_phone else ""
    )


def shell_script(
    device: Device, models: Mapping[str, Mapping[str, Any]], shapes: Mapping[str, Sequence[int]]
) -> str:
    """run.sh of a kit, for a phone without Python.

    Args:
        device: its threads and cores.
        models: of the kit, by key.
        shapes: of the input of each, channels first.
    """
    questions: list[str] = []
    for key, about in models.items():
        batch, channels, height, width = shapes[key]
        shape = f"{batch},{height},{width},{channels}"
        questions.append(f"ask {about['file']} {key} {about['size']} {shape}")
    once = "--num_runs=1 --min_secs=0 --warmup_runs=0 --warmup_min_secs=0"
    return SCRIPT.format(
        folder=FOLDER,
        command=benchmark(device, "graph.tflite"),
        one=f"./benchmark_model --graph=graph.tflite --num_threads={device.threads} "
        f"--use_xnnpack=true {once}",
        input=INPUT,
        questions="\n".join(questions),
    )


def benchmark(device: Device, graph: str) -> str:
    """The command that times a graph in the current folder of a phone."""
    mask = f"taskset {sum(1 << core for core in device.affinity):x} " if device.affinity else ""
    return (
        f"{mask}./benchmark_model --graph={graph} --num_threads={device.threads} "
        "--use_xnnpack=true --warmup_runs=3 --num_runs=50"
    )
