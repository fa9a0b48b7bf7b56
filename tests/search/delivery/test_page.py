"""The page of a browser's model classifies what its user chooses, as `predict.py` does."""

import json
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitpareto.cost_models import Device
from vitpareto.cost_models.runtimes import available, web
from vitpareto.cost_models.runtimes.web import GPU, QUIET
from vitpareto.search.data.pixels import Look
from vitpareto.search.delivery.export import export_trained, random_build
from vitpareto.search.delivery.preprocessing import Preprocessing
from vitpareto.spaces import Architecture, Block, Candidate, Stage

from ...shared import needs_device
from ..chromium import CHROMIUM, needs_chromium

pytestmark = [pytest.mark.onnx, needs_chromium]
CLASSES = tuple(f"class {i}" for i in range(10))
# What a user does: waits, chooses a file, reads. The tensors are asked of the module itself.
USER = """<!doctype html><iframe src="index.html"></iframe><script type="module">
const page = document.querySelector("iframe");
await new Promise((done) => (page.onload = done));
const inside = page.contentDocument;
const state = () => inside.getElementById("state").textContent;
const until = async (holds) => { while (!holds()) await new Promise((go) => setTimeout(go, 20)); };
await until(() => state() !== "Loading the model.");
const { tensor } = await import("./classify.mjs");
const about = await (await fetch("about.json")).json();
const seen = {};
for (const name of await (await fetch("asked.json")).json()) {
  const file = new File([await (await fetch(name)).blob()], name);
  const given = new DataTransfer();
  given.items.add(file);
  const input = inside.getElementById("file");
  input.files = given.files;
  input.dispatchEvent(new Event("change"));
  await until(() => state().startsWith(name));
  const rows = [...inside.querySelectorAll("li")];
  seen[name] = {
    state: state(),
    classes: rows.map((row) => row.firstChild.textContent),
    shares: rows.map((row) => row.lastChild.value),
    tensor: rows.length ? [...(await tensor(file, about))] : [],
  };
}
await fetch("done", { method: "POST", body: JSON.stringify(seen) });
</script>"""


class Server(SimpleHTTPRequestHandler):
    """Any static server, which also takes what the user saw."""

    seen: queue.Queue[bytes] = queue.Queue()

    def do_POST(self) -> None:
        self.seen.put(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


def shown(folder: Path, profile: Path, executes: str) -> dict:
    """What a user of the page in a folder sees."""
    (folder / "user.html").write_text(USER)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Server, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}/user.html"
    command = [CHROMIUM, *QUIET, *GPU[executes], "--no-sandbox", f"--user-data-dir={profile}", url]
    browser = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        return json.loads(Server.seen.get(timeout=120))
    finally:
        browser.terminate()
        browser.wait()
        server.shutdown()
        server.server_close()


def images(folder: Path) -> Iterator[str]:
    """Photos of several modes and sizes, as lossless files, which all decoders read alike."""
    random = np.random.default_rng(0)
    small = Image.fromarray(random.integers(0, 256, (9, 12, 3), dtype=np.uint8))
    photo = small.resize((123, 87), Image.Resampling.BICUBIC)
    turned = Image.Exif()
    turned[0x0112] = 6
    clear = photo.copy()
    clear.putalpha(Image.fromarray(np.where(random.random((87, 123)) < 0.5, 0, 255).astype("u1")))
    for name, image, exif in (
        ("color.png", photo, None),
        ("turned.png", photo, turned),
        ("tall.png", photo.resize((40, 301)), None),
        ("tiny.png", small, None),
        ("gray.png", photo.convert("L"), None),
        ("clear.png", clear, None),
    ):
        image.save(folder / name, exif=exif)
        yield name


@pytest.mark.parametrize(
    ("name", "channels", "fit", "size", "executes"),
    [
        ("browser", 1, "crop", 16, "wasm"),
        ("browser", 3, "pad", 24, "webgpu"),
        ("browser-litert", 3, "squash", 16, "wasm"),
    ],
)
def test_the_page_answers_as_the_program(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    channels: int,
    fit: str,
    size: int,
    executes: str,
) -> None:
    """Tensors agree, bit by bit where the network has the size of the images."""
    needs_device(name)
    monkeypatch.setattr(web, "SOFTWARE", True)
    device = Device.load(name)
    if executes == "webgpu":
        device = replace(device, options=(("provider", executes),))
    if missing := available(device):
        pytest.skip(missing)
    blocks = (Block(num_heads=4, head_dim=8, mlp_hidden=64),)
    network = Architecture((Stage(32, blocks),), 16, channels, 10, patch_size=4, global_pool="avg")
    norm = (0.485, 0.456, 0.406)[:channels], (0.229, 0.224, 0.225)[:channels]
    about = Preprocessing(*norm, CLASSES, Look(size, channels, fit))
    folder = tmp_path / "model"
    folder.mkdir()
    build = random_build(device, Candidate.uncompressed(network))
    files = export_trained(folder, build, device, about)
    assert {"index.html", "predict.py", "about.json"} < set(files)
    names = list(images(folder))
    (folder / "broken.png").write_bytes(b"no image")
    (folder / "asked.json").write_text(json.dumps([*names, "broken.png"]))
    seen = shown(folder, tmp_path / "profile", executes)

    program = f"""
import json, pathlib, runpy
program = runpy.run_path("predict.py")
about = json.loads(pathlib.Path("about.json").read_text())
names = {names!r}
print(json.dumps([program["tensor"](pathlib.Path(n), about).ravel().tolist() for n in names]))
"""
    command = [sys.executable, "predict.py", *names, "--json", "-k", "5"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    answers = [json.loads(line)["classes"] for line in done.stdout.splitlines()]
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    for name, answer, tensor in zip(names, answers, json.loads(done.stdout), strict=True):
        found = seen[name]
        most = 0 if size == 16 else 1e-5
        assert np.abs(np.array(found["tensor"]) - np.array(tensor)).max() <= most, name
        assert found["classes"] == [each["class"] for each in answer], name
        wanted = [each["probability"] for each in answer]
        assert found["shares"] == pytest.approx(wanted, abs=2e-6), name
        assert "ms in the model" in found["state"]
    assert "cannot be read" in seen["broken.png"]["state"] and not seen["broken.png"]["classes"]
