"""The one error that ends the program with a line of text instead of a traceback."""


class CannotRunError(RuntimeError):
    """comfy_worker cannot start or go on; the message says why and what to do."""
