"""The order of the tests in CI, and that what had no time is named."""

from tests.schedule import names_of_modules, ordered, words_of

TESTS = [
    'tests/a/test_loop.py::test_one',
    'tests/a/test_loop.py::test_two[dann]',
    'tests/a/test_pool.py::test_one',
    'tests/contract/test_contract.py::test_battery[iaat]',
    'tests/contract/test_contract.py::test_battery[iaat_eval_reuse]',
    'tests/contract/test_contract.py::test_battery[vae]',
]


def _run(changed=(), order=''):
    return [TESTS[position] for position in ordered(TESTS, changed, order)]


def test_names():
    paths = ['gjax/methods/iaat.py', 'gjax/masks/__init__.py', 'README.md', 'tests/a/test_pool.py']
    assert names_of_modules(paths) == {'iaat', 'masks'}
    assert words_of(TESTS[1]) == {'loop', 'dann'}
    assert words_of(TESTS[4]) == {'contract', 'iaat_eval_reuse', 'iaat'}
    assert words_of('tests/x/test_y.py::test_z[a/b.py-iaat,dann]') >= {'y', 'iaat', 'dann'}


def test_tests_of_changed_modules_come_first():
    assert _run(['gjax/methods/iaat.py'])[:2] == TESTS[3:5]
    assert _run(['gjax/methods/baselines/autoencoder.py'])[0] == TESTS[5]
    assert _run(['gjax/train/loop.py'])[:2] == TESTS[:2]
    assert _run(['tests/a/test_pool.py'])[0] == TESTS[2]
    assert _run(['gjax/nets/glow.py']) == TESTS


def test_the_rest_rotates_by_commit_file_by_file():
    orders = {tuple(_run((), f'commit {i}')) for i in range(40)}
    assert len(orders) == 6  # of three files
    assert {order[0] for order in orders} == {TESTS[0], TESTS[2], TESTS[3]}
    for order in orders:
        assert sorted(order) == sorted(TESTS)
        assert order.index(TESTS[1]) == order.index(TESTS[0]) + 1
        assert _run(['gjax/methods/iaat.py'], 'commit')[:2] == TESTS[3:5]


def test_what_has_no_time_is_skipped_by_name(pytester, monkeypatch):
    pytester.makeconftest('from tests.schedule import pytest_runtest_setup')
    pytester.makepyfile(test_it='def test_it():\n    assert False\n\ndef test_other():\n    pass\n')
    for until, outcome in (('1', {'skipped': 2}), ('1e12', {'failed': 1, 'passed': 1}), ('', {'failed': 1, 'passed': 1})):
        monkeypatch.setenv('GJAX_TESTS_UNTIL', until)
        done = pytester.runpytest_inprocess('-ra', '-p', 'no:xdist')
        done.assert_outcomes(**outcome)
        if until == '1':
            done.stdout.fnmatch_lines(['SKIPPED*no time left for test_it.py::test_it', 'SKIPPED*for test_it.py::test_other'])
