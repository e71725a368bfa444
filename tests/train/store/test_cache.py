"""Programs that XLA has compiled are kept in the user's cache folder."""

import os
import pwd
import stat
import subprocess
import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache

from gjax.data.dataset import DataError
from gjax.data.sources import tfds_directory
from gjax.train.errors import RunError
from gjax.train.store import cache

CODE = """
from gjax.train.store.cache import keep_compiled
keep_compiled()
import jax, jax.numpy as jnp
jax.jit(lambda x: jnp.linalg.inv(x @ x) + 1)(jnp.eye(5)).block_until_ready()
"""


def _run(folder, **changes):
    environment = {key: value for key, value in os.environ.items() if key != 'JAX_COMPILATION_CACHE_DIR'}
    environment |= {'GJAX_CACHE': str(folder), 'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0', **changes}
    subprocess.run([sys.executable, '-c', CODE], check=True, timeout=120, env=environment)
    return {path.name for path in folder.glob('compiled/*/*') if path.name.endswith('-cache')}


def test_a_second_process_finds_what_the_first_compiled(tmp_path):
    first = _run(tmp_path)
    assert first
    assert _run(tmp_path) == first


@pytest.mark.parametrize('elsewhere', ['', 'own'])
def test_another_folder_or_none(tmp_path, elsewhere):
    own = tmp_path / elsewhere
    assert not _run(tmp_path, JAX_COMPILATION_CACHE_DIR=str(own) if elsewhere else '')
    assert not elsewhere or list(own.glob('*-cache'))


@pytest.mark.parametrize('error', [RunError('no home'), PermissionError('read only')])
def test_without_a_folder_nothing_is_kept(monkeypatch, error):
    def nowhere():
        raise error

    monkeypatch.delenv('JAX_COMPILATION_CACHE_DIR', raising=False)
    monkeypatch.setattr(cache, 'cache_dir', nowhere)
    before = jax.config.jax_compilation_cache_dir
    cache.keep_compiled()
    assert jax.config.jax_compilation_cache_dir == before


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch):
    def unknown(uid):
        raise KeyError(uid)

    for name in ('HOME', 'GJAX_CACHE', 'XDG_CACHE_HOME', 'TFDS_DATA_DIR', 'JAX_COMPILATION_CACHE_DIR'):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, 'getpwuid', unknown)
    with pytest.raises(RunError, match='no home folder, and GJAX_CACHE is not set'):
        cache.cache_dir()
    with pytest.raises(DataError, match=r'no home folder for ~/tensorflow_datasets; set data\.dir or TFDS_DATA_DIR'):
        tfds_directory(None)
    cache.keep_compiled()


@pytest.fixture
def kept(monkeypatch, tmp_path):
    """A function that sets compilation up for a cache folder and tells which folder JAX uses."""
    monkeypatch.delenv('JAX_COMPILATION_CACHE_DIR', raising=False)
    monkeypatch.setenv('GJAX_CACHE', str(tmp_path / 'open' / 'cache'))
    used = []
    monkeypatch.setattr(cache.jax.config, 'update', lambda name, value: used.append(value))

    def keep():
        used.clear()
        cache.keep_compiled()
        return used

    (tmp_path / 'open').mkdir(mode=0o700)
    return keep


def test_the_cache_is_this_users_alone(kept, tmp_path, capsys):
    (folder,) = kept()
    assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
    for path, mode, trusted in (
        (folder, 0o777, False),
        (folder, 0o1777, False),
        (folder, 0o755, True),
        (tmp_path / 'open', 0o777, False),
        (tmp_path / 'open', 0o1777, True),
        (tmp_path / 'open', 0o700, True),
    ):
        os.chmod(path, mode)
        assert bool(kept()) == trusted, (path, oct(mode))
        said = capsys.readouterr().err
        assert said == ('' if trusted else f'gjax: compiled programs are not kept: others may write in {path}\n')


def test_the_cache_of_another_user_is_not_used(kept, monkeypatch, capsys):
    (folder,) = kept()
    monkeypatch.setattr(cache.os, 'geteuid', lambda: os.getuid() + 1)
    assert not kept()
    assert f'{folder} belongs to another user' in capsys.readouterr().err


@pytest.fixture
def programs(tmp_path):
    """A folder in which JAX keeps every program that it compiles."""
    names = ('compilation_cache_dir', 'persistent_cache_min_compile_time_secs', 'persistent_cache_min_entry_size_bytes')
    before = {f'jax_{name}': getattr(jax.config, f'jax_{name}') for name in names}
    for name, value in zip(before, (str(tmp_path), 0, -1), strict=True):
        jax.config.update(name, value)
    compilation_cache.reset_cache()
    yield tmp_path
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


@pytest.mark.slow
def test_damaged_programs_are_compiled_again(programs):
    def value():
        jax.clear_caches()
        return float(jax.jit(lambda x: jnp.sin(x) * 3 + 1)(0.5))

    expected, rng = value(), np.random.default_rng(0)
    (entry,) = (path for path in programs.iterdir() if 'lambda' in path.name and path.name.endswith('-cache'))
    content = entry.read_bytes()
    for attempt in range(100):
        at, length = int(rng.integers(len(content))), int(rng.integers(1, 40))
        damaged = (content[:at], content[:at] + rng.bytes(length) + content[at + length :], rng.bytes(at))[attempt % 3]
        entry.write_bytes(damaged)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter('always')
            assert value() == expected
        assert attempt % 3 == 1 or any('Error reading persistent compilation cache' in str(line.message) for line in said)
