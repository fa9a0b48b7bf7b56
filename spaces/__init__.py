"""Search spaces, their candidates, and the networks that candidates describe."""

from .architecture import Architecture, Stage
from .block import Block, Place
from .candidate import Candidate
from .compression import Compression, Policy, StagePolicy
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
