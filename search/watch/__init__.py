"""Watch: a live page of a run for the browser of this machine, read from its folder alone."""
