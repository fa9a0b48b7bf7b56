"""Program that is delivered with a model: two of our files in one, which needs no other."""

from __future__ import annotations

import inspect

from ...cost_models import Device
from ..data import decoding
from . import predict_example

IMPORTS = ("import ", "from ")


def program(device: Device) -> str:
    """Source of a program that classifies images as the model was verified on a device."""
    _, _, reading = inspect.getsource(decoding).partition("from __future__ import annotations\n")
    known = {line for line in reading.splitlines() if line.startswith(IMPORTS)}
    lines = [line for line in inspect.getsource(predict_example).splitlines() if line not in known]
    (own,) = (line for line in lines if line.startswith("from ..data.decoding import"))
    lines[lines.index(own)] = reading.strip()
    source = "\n".join(lines) + "\n"
    source = source.replace("\nTHREADS = 1\n", f"\nTHREADS = {device.threads}\n")
    provider = f'\nPROVIDER = "{device.provider}"\n'
    return source.replace('\nPROVIDER = "CPUExecutionProvider"\n', provider)
