"""A module's functions, called in a process of their own: how another framework is measured beside JAX."""

import importlib
import importlib.util
import multiprocessing

from gjax.train.errors import RunError


def _serve(connection, module: str) -> None:
    while True:
        try:
            name, arguments = connection.recv()
        except EOFError:
            return
        try:
            answer = getattr(importlib.import_module(module), name)(*arguments)
        except Exception as error:
            answer = RunError(f'{module}.{name}: {type(error).__name__}: {" ".join(str(error).split())[:300]}')
        connection.send(answer)


class Peer:
    """Calls functions of `module`, whose arguments and results can be pickled. A context.

    Raises:
      RunError: `package`, which the module needs, is not installed; from `call`: the function has raised.
    """

    def __init__(self, package: str, module: str):
        if importlib.util.find_spec(package) is None:
            raise RunError(f'--peer={package} needs {package}, which is not installed; run: pip install {package}')
        self._module = module

    def __enter__(self):
        context = multiprocessing.get_context('spawn')
        self._connection, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other, self._module))
        self._process.start()
        other.close()
        return self

    def call(self, name: str, *arguments):
        """What the function `name` of the module gives for these arguments."""
        try:
            self._connection.send((name, arguments))
            answer = self._connection.recv()
        except (EOFError, OSError) as error:
            raise RunError(f'the process of {self._module} has died') from error
        if isinstance(answer, RunError):
            raise answer
        return answer

    def __exit__(self, *_):
        self._connection.close()
        self._process.join()
