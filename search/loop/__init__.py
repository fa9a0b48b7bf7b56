"""The loop: who proposes candidates, and the study that asks and tells."""
