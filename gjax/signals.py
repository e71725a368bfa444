"""Signals to stop: what Ctrl-C, SIGTERM and SIGHUP do to a process of gjax, from its first line to its last.

A process ends at once, with one line and exit code 128 + the signal's number, unless something in it holds signals to save
first. Nothing heavy is imported here, so that the command line can begin with `watch`.
"""

import os
import select
import signal
import sys
import threading

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_holds: list['Hold'] = []  # the innermost one last: it gets the signals
_watching = False


def watch() -> None:
    """From now on, to the end of the process, a signal to stop takes effect even while the main thread is in compiled code.

    A thread waits for the signals, which all other threads block from now on: Python's own handlers would run only between
    two lines of the main thread's Python, and would raise in the midst of an import. SIGHUP stays ignored under nohup.
    """
    global _watching
    numbers = _install()
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    _watching = True
    threading.Thread(target=_wait_for, args=(numbers,), daemon=True).start()


class Hold:
    """Within it a signal to stop is remembered for the code inside, which looks at `number`, saves and ends by itself.

    Without `watch` (in a notebook, in tests) only the main thread can hold signals, and they arrive between two lines of its
    Python.
    """

    def __init__(self):
        self.number = 0  # the first signal that came; 0 while there is none
        self.told = False  # whether the line of `tells` has been printed
        self._line = ''
        self._came = threading.Event()
        self._old: dict = {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            self._old = {number: signal.getsignal(number) for number in STOPS}
            _install()  # again: JAX takes SIGTERM to itself where it joins other processes
            _holds.append(self)
        return self

    def __exit__(self, *_):
        if self in _holds:
            _holds.remove(self)
        for number, handler in self._old.items():
            signal.signal(number, handler)

    def wait(self, seconds: float) -> None:
        """Returns when so much time has passed, or as soon as a signal has come."""
        self._came.wait(seconds)

    def tells(self, line: str) -> None:
        """From now on the first signal prints 'gjax: NAME ' and this line, and the next one ends the process at once.

        For work that may take long before it looks at `number`, at whose begin nothing is left to save.
        """
        if _watching:  # multiprocessing unblocks them in the thread that starts its resource tracker
            signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
        self._line = line

    def _take(self, number: int) -> bool:
        """Takes a signal; False if it is one too many."""
        if self.number and self._line:
            return False
        if not self.number:
            self.number = number
            if self._line:
                self.told = True
                _say(f'gjax: {signal.Signals(number).name} {self._line}')
            self._came.set()
        return True


def _install() -> list[int]:
    """Installs the handler of the signals to stop, which are returned: all but a SIGHUP that nohup has switched off."""
    numbers = [n for n in STOPS if n != signal.SIGHUP or signal.getsignal(n) != signal.SIG_IGN]
    for number in numbers:
        signal.signal(number, _handle)
    return numbers


def _wait_for(numbers) -> None:
    while True:
        _deliver(signal.sigwait(numbers))


def _handle(number: int, frame) -> None:
    """The handler of signals that come to the main thread all the same."""
    _deliver(number)


def _deliver(number: int) -> None:
    if _holds and _holds[-1]._take(number):
        return
    if not _watching:  # it is not ours to end a notebook
        raise KeyboardInterrupt
    _say(f'gjax: stopped by {signal.Signals(number).name}')
    os._exit(128 + number)


def _say(line: str) -> None:
    """Prints a line on standard error, if that can be written to now."""
    try:
        if not _watching:
            print(line, file=sys.stderr, flush=True)
        elif select.select([], [2], [], 0)[1]:  # past Python's buffers, which the main thread may have locked
            os.write(2, f'{line}\n'.encode())
    except (OSError, ValueError, RuntimeError):  # what a signal asks for is done all the same
        pass
