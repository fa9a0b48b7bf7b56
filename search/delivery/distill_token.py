"""Distillation tokens: fused or dropped when their network is delivered, and what either is worth.

A network with `global_pool: distill` has a token that learns from the teacher alone, with a head of
its own (Touvron et al., DeiT, arXiv:2012.12877). Fused, its answers are the mean of both heads, as
in DeiT. Dropped, it is a plain network with a class token, which has a token and a head less to
compute, and never sees what the other token told the class token while they trained.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from ...spaces import Candidate
from ...spaces.networks import Network
from ...spaces.networks.refit import without_distillation
from ..config.sections import TokenForm
from ..data.dataset import Split
from ..training.accuracy import accuracy
from ..training.forward import predict
from .claims import Form


class Settled(NamedTuple):
    """A finalist in the form in which it is delivered.

    Attributes:
        candidate: of that form.
        network: likewise.
        forms: how right each form is, as trained; empty where there is no distillation token.
    """

    candidate: Candidate
    network: Network
    forms: dict[str, Form]


def settle(candidate: Candidate, network: Network, wanted: TokenForm, split: Split) -> Settled:
    """Judge both forms of a finalist with a distillation token, and take the one that is wanted.

    Args:
        candidate: of the finalist.
        network: its trained weights.
        wanted: form to deliver.
        split: images on which both are judged.

    Raises:
        ArithmeticError: a logit is NaN or infinite.
    """
    if network.dist_token is None:
        return Settled(candidate, network, {})
    known: dict[str, tuple[Candidate, Network]] = {
        "fused": (candidate, network),
        "dropped": (without_token(candidate), without_distillation(network)),
    }
    shares = {name: accuracy(predict(*form, split), split.labels) for name, form in known.items()}
    forms = {name: Form(**share, delivered=name == wanted) for name, share in shares.items()}
    return Settled(*known[wanted], forms)


def without_token(candidate: Candidate) -> Candidate:
    """The candidate of the network without its distillation token."""
    architecture = replace(candidate.architecture, global_pool="token")
    return Candidate(architecture, candidate.compression)
