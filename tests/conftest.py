"""Eight simulated devices, strict promotion, and a compilation cache that the test subprocesses share."""

import contextlib
import ctypes
import fcntl
import gc
import os
import subprocess
import sys
from pathlib import Path

_CACHE = Path(__file__).parent.parent / '.jax_cache'
os.environ.setdefault('JAX_PLATFORMS', 'cpu')
os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', str(_CACHE))
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0.1')
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES', '-1')
os.environ.setdefault('JAX_NUM_CPU_DEVICES', '8')
os.environ.setdefault('GJAX_PROGRESS', '0')
os.environ.setdefault('MPLBACKEND', 'Agg')


def _quick_to_compile() -> str:
    """XLA's flags with which the tests' many small programs compile in half the time; those that this jaxlib knows, for it
    ends the process at others. Workers and subprocesses inherit them.
    """
    flags = '--xla_backend_optimization_level=0 --xla_cpu_parallel_codegen_split_count=1 --xla_cpu_use_fusion_emitters=false'
    probe = [sys.executable, '-c', 'import jax; jax.devices()']
    done = subprocess.run(probe, env=os.environ | {'XLA_FLAGS': flags}, capture_output=True, check=False)
    return flags if done.returncode == 0 else flags.split()[0]


if 'XLA_FLAGS' not in os.environ:
    os.environ['XLA_FLAGS'] = _quick_to_compile()

import hypothesis
import jax
import psutil
import pytest

from tests.schedule import pytest_collection_modifyitems, pytest_runtest_setup  # noqa: F401  hooks

# Every new shape compiles, which takes longer than hypothesis thinks an example should; CI must not be a lottery.
hypothesis.settings.register_profile('gjax', deadline=None, derandomize=True, max_examples=30)
hypothesis.settings.load_profile('gjax')

# Tracing makes millions of objects, few of them garbage: looking for it as often as usual takes 6 % of the tests' time.
gc.set_threshold(200_000, 20, 100)

jax.config.update('jax_numpy_rank_promotion', 'raise')
jax.config.update('jax_numpy_dtype_promotion', 'strict')


@pytest.fixture(scope='session')
def meshes():
    """The same mesh over 1 and over 8 devices."""
    from gjax.train.devices import data_mesh

    return {n: data_mesh(jax.devices()[:n]) for n in (1, 8)}


@pytest.fixture(scope='session')
def once(tmp_path_factory):
    """(name, make) -> a folder that make(folder) filled, once for all test workers."""
    root = tmp_path_factory.getbasetemp()
    root = root.parent if 'PYTEST_XDIST_WORKER' in os.environ else root

    def folder(name, make):
        with open(root / f'{name}.lock', 'w', encoding='utf-8') as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (root / f'{name}.done').exists():
                assert not (root / name).exists(), f'what makes {name} has failed before'
                (root / name).mkdir()
                make(root / name)
                (root / f'{name}.done').touch()
        return root / name

    return folder


@pytest.fixture(scope='module', autouse=True)
def _no_programs_of_other_files():
    """Compiled programs of a test file are dropped at its end: a worker would hold gigabytes of them."""
    yield
    jax.clear_caches()


@pytest.fixture(autouse=True)
def _memory_stays_small():
    """A worker of more than two gigabytes drops its programs and its garbage after each test, and gives their pages back."""
    yield
    if psutil.Process().memory_info().rss > 2 * 2**30:
        jax.clear_caches()
        gc.collect()
        with contextlib.suppress(OSError, AttributeError):  # glibc alone has it
            ctypes.CDLL(None).malloc_trim(0)
