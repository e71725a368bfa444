"""Programs that XLA has compiled are kept in the user's cache folder."""

import os
import pwd
import subprocess
import sys

import jax
import pytest

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
