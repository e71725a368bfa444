"""The user's cache folder: trained extractors, and programs that XLA has compiled."""

import os
import platform
import stat
import sys
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
        lines = Path('/proc/cpuinfo').read_text(encoding='utf-8').splitlines()
    except OSError:
        lines = []
    flags = next((line for line in lines if line.lower().startswith(('flags', 'features'))), platform.processor())
    return f'{platform.machine()}-{zlib.crc32(flags.encode()):08x}'


def _distrust(folder: Path) -> str:
    """Why other users might have put something into a folder of this user; '' if they cannot.

    A folder above it may be root's, or open to all if its sticky bit keeps them from moving what is not theirs.
    """
    user = os.geteuid()
    for path in (folder, *folder.parents):
        info = path.stat()
        if info.st_uid != user and (path == folder or info.st_uid != 0):
            return f'{path} belongs to another user'
        if info.st_mode & 0o022 and (path == folder or not info.st_mode & stat.S_ISVTX):
            return f'others may write in {path}'
    return ''


def keep_compiled() -> None:
    """From now on, programs that took XLA a second to compile are kept in the user's cache folder, and found there again.

    They are native code: a folder that others may write in, or that is theirs, is not used, which a line on standard error
    says. JAX_COMPILATION_CACHE_DIR, if set, names another folder, unchecked ('' for none). A folder that cannot be written
    is left alone.
    """
    if 'JAX_COMPILATION_CACHE_DIR' in os.environ:
        return
    try:
        folder = cache_dir().absolute() / 'compiled' / _processor()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = folder.resolve()
        reason = _distrust(folder)
    except (OSError, RunError):  # or there is no home
        return
    if reason:
        print(f'gjax: compiled programs are not kept: {reason}', file=sys.stderr)
    elif os.access(folder, os.W_OK):
        jax.config.update('jax_compilation_cache_dir', str(folder))
