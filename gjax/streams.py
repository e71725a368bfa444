"""Standard input, output and error of a process of gjax: whatever they are, what it does and writes to files is the same."""

import errno
import io
import os
import sys


class _Raw(io.FileIO):
    """A descriptor on which writing never fails: what cannot be written is dropped, and `error` keeps why."""

    error: OSError | None = None

    def write(self, data) -> int:
        size = memoryview(data).nbytes
        try:
            written = super().write(data)
        except OSError as error:
            self.error, written = error, size
        if written is None:  # a descriptor that does not wait is full
            self.error, written = BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN)), size
        return written


def prepare() -> None:
    """Makes the standard streams safe to use; call it before anything is opened or printed.

    Descriptors 0 to 2 that are missing are opened on the null device: the next file to be opened would get their number, and
    what others print. From now on `sys.stdout` and `sys.stderr` write characters that their encoding lacks as escapes, and
    drop what they cannot write (a full disk, a reader that is gone), so that no run ends for it; see `finish`.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # it gets the lowest number that is free
    if sys.stdin is None:
        sys.stdin = io.TextIOWrapper(io.BufferedReader(io.FileIO(0, closefd=False)), encoding='utf-8')
    sys.stdout, sys.stderr = _stream(1, sys.stdout), _stream(2, sys.stderr)


def _stream(descriptor: int, old) -> io.TextIOWrapper:
    """A text stream like the one that Python has made, which is None where there was no descriptor."""
    raw = _Raw(descriptor, 'w', closefd=False)
    if old is None:
        return io.TextIOWrapper(io.BufferedWriter(raw), encoding='utf-8', errors='backslashreplace', line_buffering=True)
    old.flush()
    options = {'line_buffering': old.line_buffering, 'write_through': old.write_through}
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding=old.encoding, errors='backslashreplace', **options)


def finish(code: int) -> int:
    """The exit code of a process whose command ended with `code`: 1 in place of 0 if its output could not be written.

    One line then says why. A reader that has gone (`gjax list | head`) is no failure.
    """
    sys.stdout.flush()
    error = sys.stdout.buffer.raw.error
    if error is None or isinstance(error, BrokenPipeError):
        return code
    print(f'gjax: error: standard output cannot be written: {error.strerror}', file=sys.stderr, flush=True)
    return code or 1
