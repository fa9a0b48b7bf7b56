"""Foreign tables, models and graphs: read, checked, transferred, estimated, written."""
