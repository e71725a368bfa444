"""Errors that a user can cause or act on; the command line prints their one line instead of a traceback."""


class RunError(RuntimeError):
    """A run cannot start or go on."""


class NonFiniteError(RunError):
    """A metric became infinite or NaN."""


class Interrupted(RunError):
    """The run was asked to stop (SIGTERM or SIGINT), saved its state and can be resumed."""

    def __init__(self, message: str, exit_code: int):
        super().__init__(message)
        self.exit_code = exit_code
