"""The files that jobs make: their rows, and the store their bytes are in."""
