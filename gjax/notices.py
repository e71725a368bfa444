"""Warnings on the command line: each is one line of standard error, and is told once."""

import contextlib
import os
import sys
import warnings


@contextlib.contextmanager
def one_line_each():
    """Within it every warning is printed as one line, `gjax: warning: TEXT`; another library's ends with its name and kind.

    A text is printed once and, of a run in several processes, what gjax itself warns of by the first process alone. What
    Python's filters ignore stays ignored.
    """
    told = set()

    def show(message, category, filename, lineno, file=None, line=None):
        from gjax.data.entries import shown  # loaded by now, as is whatever warns
        from gjax.train.errors import RunWarning

        own, text = issubclass(category, RunWarning), ' '.join(str(message).split())
        text = text if own else f'{text} ({_origin(filename)}: {category.__name__})'
        if text not in told and not (own and _beside_others()):
            told.add(text)
            print(f'gjax: warning: {shown(text)}', file=sys.stderr, flush=True)

    old, warnings.showwarning = warnings.showwarning, show
    try:
        yield
    finally:
        warnings.showwarning = old


def _origin(filename: str) -> str:
    """The library to which a warning points, or the file if that is none of an installed library."""
    installed = filename.replace(os.sep, '/').rpartition('-packages/')[2]  # site-packages, dist-packages
    return installed.partition('/')[0].removesuffix('.py') if installed != filename else filename


def _beside_others() -> bool:
    """Whether this process has joined others as another than the first."""
    processes = sys.modules.get('gjax.train.processes')
    return processes is not None and processes.several() and not processes.is_main()
