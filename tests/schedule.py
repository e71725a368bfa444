"""The order of the tests, and when the last of them may begin; `.ci/run` sets both by environment variables.

GJAX_TESTS_CHANGED: paths of changed files, separated by white space. Tests of these files come first, and so do those that
  bear the name of a changed module: in their file's name, in a parameter, or as the method of the battery's case.
GJAX_TESTS_ORDER: any text, e.g. a commit's id. The files of all other tests follow in an order drawn by it, so that what
  time cuts off is another part at every commit. The tests of a file stay together, for they share fixtures.
GJAX_TESTS_UNTIL: seconds since the epoch. Tests that would begin later are skipped, and pytest's summary names each.
"""

import hashlib
import os
import re
import time
from pathlib import PurePosixPath

import pytest

from tests.contract.cases import CASES


def names_of_modules(paths) -> set[str]:
    """The names that tests of changed files bear: 'iaat' for gjax/methods/iaat.py, 'masks' for gjax/masks/__init__.py."""
    paths = [PurePosixPath(path) for path in paths if path.endswith('.py') and not path.startswith('tests/')]
    return {path.parent.name if path.stem == '__init__' else path.stem for path in paths}


def words_of(nodeid: str) -> set[str]:
    """The names in a test's id: its file's without 'test_', its parameters', and the methods of cases of the battery."""
    file, _, rest = nodeid.partition('::')
    words = {PurePosixPath(file).stem.removeprefix('test_')}
    if '[' in rest:
        words |= set(re.findall(r'\w+', rest.partition('[')[2]))
    return words | {CASES[word]['name'] for word in words & CASES.keys()}


def ordered(nodeids, changed, order: str) -> list[int]:
    """The positions of tests in the order in which they run; see the module."""
    changed, modules = set(changed), names_of_modules(changed)

    def key(position):
        file = nodeids[position].partition('::')[0]
        first = file in changed or not modules.isdisjoint(words_of(nodeids[position]))
        drawn = hashlib.sha256(f'{order} {file}'.encode()).hexdigest() if order and not first else ''
        return not first, drawn, position

    return sorted(range(len(nodeids)), key=key)


def pytest_collection_modifyitems(config, items):
    changed, order = os.environ.get('GJAX_TESTS_CHANGED', '').split(), os.environ.get('GJAX_TESTS_ORDER', '')
    if changed or order:
        root = PurePosixPath(config.rootpath.as_posix())
        nodeids = [f'{PurePosixPath(item.path.as_posix()).relative_to(root)}::{item.name}' for item in items]
        items[:] = [items[position] for position in ordered(nodeids, changed, order)]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    until = os.environ.get('GJAX_TESTS_UNTIL', '')
    if until and time.time() > float(until):
        pytest.skip(f'no time left for {item.nodeid}')
