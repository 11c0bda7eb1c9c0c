"""The one error that ends the program with a line of text instead of a traceback."""


class CannotRunError(RuntimeError):
    """job_service cannot start or go on; the message says why and what to do."""
