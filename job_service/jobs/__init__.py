"""The life of a job: states, validation, errors, routing. Pure: no I/O."""
