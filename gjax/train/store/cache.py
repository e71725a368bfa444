"""The user's cache folder: trained extractors, and programs that XLA has compiled."""

import os
import platform
import zlib
from pathlib import Path

import jax

from gjax.train.errors import RunError


def cache_dir() -> Path:
    """GJAX_CACHE, or gjax in the user's cache folder.

    Raises:
      RunError: neither is set, and the user has no home folder.
    """
    if os.environ.get('GJAX_CACHE'):
        return Path(os.environ['GJAX_CACHE'])
    try:
        return Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'gjax'
    except RuntimeError:
        raise RunError('this user has no home folder, and GJAX_CACHE is not set; set it to a folder') from None


def _processor() -> str:
    """What programs compiled for a CPU depend on: a cache may lie on a file system that machines share."""
    try:
        lines = Path('/proc/cpuinfo').read_text().splitlines()
    except OSError:
        lines = []
    flags = next((line for line in lines if line.lower().startswith(('flags', 'features'))), platform.processor())
    return f'{platform.machine()}-{zlib.crc32(flags.encode()):08x}'


def keep_compiled() -> None:
    """From now on, programs that took XLA a second to compile are kept in the user's cache folder, and found there again.

    JAX_COMPILATION_CACHE_DIR, if set, says where instead ('' for nowhere). A folder that cannot be written is left alone.
    """
    if 'JAX_COMPILATION_CACHE_DIR' in os.environ:
        return
    try:
        folder = cache_dir() / 'compiled' / _processor()
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RunError):  # or there is no home
        return
    if os.access(folder, os.W_OK):
        jax.config.update('jax_compilation_cache_dir', str(folder))
