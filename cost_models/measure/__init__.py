"""Measuring: graphs timed in fresh processes, their memory, what a precision executes."""
