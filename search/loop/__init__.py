"""The loop: samplers that propose candidates, and the study that asks and tells."""
