"""One servicer for each service: decode, authorise, call, encode."""
