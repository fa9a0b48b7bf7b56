"""Program that is delivered with a model: two of our files in one, which needs no other."""

from __future__ import annotations

import inspect

from ...cost_models import Device
from ..data import decoding
from . import predict_example


def program(device: Device) -> str:
    """Source of a program that classifies images as the model was verified on a device."""
    head, own = "from __future__ import annotations\n", "from ..data.decoding import"
    _, _, reading = inspect.getsource(decoding).partition(head)
    source = inspect.getsource(predict_example)
    (line,) = (line for line in source.splitlines() if line.startswith(own))
    source = source.replace(line, reading.strip())
    source = source.replace("\nTHREADS = 1\n", f"\nTHREADS = {device.threads}\n")
    provider = f'\nPROVIDER = "{device.provider}"\n'
    return source.replace('\nPROVIDER = "CPUExecutionProvider"\n', provider)
