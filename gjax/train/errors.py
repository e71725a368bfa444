"""Errors and warnings that a user can cause or act on; the command line prints their one line, and no traceback."""


class RunError(RuntimeError):
    """A run cannot start or go on."""


class ConfigError(RunError):
    """A config file, key or value is wrong."""


class RunWarning(UserWarning):
    """What a user should know of a run that goes on; the command line prints its one line."""


class NonFiniteError(RunError):
    """A metric became infinite or NaN."""


class Interrupted(RunError):
    """The run was asked to stop (SIGINT, SIGTERM or SIGHUP), saved its state and can be resumed.

    exit_code: 128 + the signal's number. told: whether the user has already read as much, when the signal came.
    """

    def __init__(self, message: str, exit_code: int, told: bool = False):
        super().__init__(message)
        self.exit_code, self.told = exit_code, told
