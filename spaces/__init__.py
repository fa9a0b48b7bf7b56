"""What may be built: search spaces, candidates, and the networks they describe."""

from .block import Block, Place
from .candidate import Architecture, Candidate, Compression, Policy, Stage, StagePolicy
from .errors import ConfigError, SpaceError, UnknownNameError, VitParetoError
from .parameter import Choice, Scalar
from .space import SearchSpace

__all__ = [
    "Architecture",
    "Block",
    "Candidate",
    "Choice",
    "Compression",
    "ConfigError",
    "Place",
    "Policy",
    "Scalar",
    "SearchSpace",
    "SpaceError",
    "Stage",
    "StagePolicy",
    "UnknownNameError",
    "VitParetoError",
]
