"""An example of what a plugin can add to vitpareto, a file each."""
