"""Finding, finishing and delivering."""
