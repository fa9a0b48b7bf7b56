"""Units: residual sub-blocks of a candidate with their counts and keys, without torch."""
