"""Plain torch modules under timm's names, as an architecture describes them."""

from .network import Network
from .sharing import Shared, shared_of

__all__ = ["Network", "Shared", "shared_of"]
