"""TorchScript: a float32 module whose weights are rounded, and a `torch.export` program."""

from __future__ import annotations

import copy
import io
import json
import warnings

import torch

from ....cost_models import Device
from ....cost_models.graphs.modules import input_shape
from ....cost_models.runtimes import torch as torch_runtime
from ....spaces.networks import Network
from ...compress.network import compressed, compressible
from ..build import Build
from ..preprocessing import Preprocessing, metadata
from ..program import torch as part
from ..program.assemble import program
from . import PREDICT, Format
from .rounded import weights_alone

PROGRAM = "model.pt2"
ABOUT = part.ABOUT  # extra file of both


@torch.no_grad()
def encode(build: Build, device: Device, preprocessing: Preprocessing | None) -> bytes:
    """Encode a frozen module, with metadata in the extra file `about.json`."""
    network, stream = rounded(build), io.BytesIO()
    example = torch.zeros(input_shape(build.candidate, device.batch))
    extra = {
        ABOUT: json.dumps(metadata(build.candidate, preprocessing)),
        torch_runtime.SHAPE: json.dumps(example.shape),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of deprecation, and of tracing
        module = torch.jit.freeze(torch.jit.trace(network, (example,)))
        torch.jit.save(module, stream, _extra_files=extra)
    return stream.getvalue()


@torch.no_grad()
def companions(
    build: Build, device: Device, preprocessing: Preprocessing | None
) -> dict[str, bytes | str]:
    """Encode the same as a `torch.export` program, which torch's own compilers read.

    Beside it is a program that classifies images with the first file.
    """
    network, stream = rounded(build), io.BytesIO()
    example = torch.zeros(input_shape(build.candidate, device.batch))
    extra = {ABOUT: json.dumps(metadata(build.candidate, preprocessing))}
    torch.export.save(torch.export.export(network, (example,)), stream, extra_files=extra)
    return {PROGRAM: stream.getvalue(), PREDICT: program(device, part)}


def rounded(build: Build) -> Network:
    """Copy the network with the weights that will be stored."""
    network = copy.deepcopy(build.ready)
    layers = compressible(network, build.candidate, build.recipes)
    network.load_state_dict(compressed(network.state_dict(), layers))
    return network


TORCHSCRIPT = Format("model.torchscript.pt", encode, companions, recipes=weights_alone)
