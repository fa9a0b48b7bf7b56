"""Weights by name where the hub is silent: found out at once, and copies of earlier runs serve."""

import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import timm
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

from vitpareto.search.start.models import open_model
from vitpareto.search.training import hub
from vitpareto.search.training.hub import fetching
from vitpareto.search.training.timm_models import load_pretrained
from vitpareto.spaces.errors import RunError

NAME = "test_vit"


@pytest.fixture
def endpoint() -> Iterator[str]:
    """An address that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def silent(endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of copies of a machine whose hub is there."""
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(hub, "WAIT_S", 0.2)
    return tmp_path


@pytest.mark.parametrize("load", [load_pretrained, open_model])
def test_silence_is_one_line_at_once(silent: Path, load: object) -> None:
    assert callable(load)
    begun = time.monotonic()
    with pytest.raises(RunError, match=r"its weights cannot be had; .* does not answer") as caught:
        load(NAME)
    assert time.monotonic() - begun < 5
    assert "\n" not in str(caught.value) and "HF_HUB_OFFLINE" not in str(caught.value)
    assert not constants.HF_HUB_OFFLINE


def test_copies_serve(silent: Path) -> None:
    model = timm.create_model(NAME)
    folder = silent / f"models--{model.pretrained_cfg['hf_hub_id'].replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("abc")
    (folder / "snapshots" / "abc").mkdir(parents=True)
    save_file(model.state_dict(), folder / "snapshots" / "abc" / "model.safetensors")
    found = open_model(NAME).state_dict()
    assert all(torch.equal(value, found[name]) for name, value in model.state_dict().items())


def test_a_hub_that_answers_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it says; its own errors are those that are told."""

    class No(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_error(404)

        def log_message(self, *words: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), No) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        with pytest.raises(RunError, match="checkpoint: no such model"), fetching("model: x"):
            assert not constants.HF_HUB_OFFLINE
            raise OSError("no such model")
        server.shutdown()
