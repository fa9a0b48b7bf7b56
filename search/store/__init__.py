"""Store: the files of a run."""
