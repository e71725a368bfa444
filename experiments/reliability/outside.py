"""What lies outside a run and may be bad: caches, an extractor's weights, pipes and devices in place of files, downloads."""

import json
import os
import select
import shutil
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

from PIL import Image

from experiments.reliability.bench import TEXT, Bench, Outcome, last_line, one_line
from experiments.reliability.server import KINDS, PAGE, serving, whole_file


def compiled_programs(bench: Bench) -> Outcome:
    """A cache of compiled programs that is damaged, or in which others may have put one program in place of another."""
    cache, failures, tried = bench.root / 'programs', [], 0
    # Where the cache is not used everything is compiled: a small config, quickly, and whatever takes no time is kept too.
    settings = {key: value for key, value in bench.settings.items() if not key.startswith('method.')}
    settings |= {'train.total_epochs': 2, 'train.eval_every_epochs': 2}
    quick = {'XLA_FLAGS': '--xla_backend_optimization_level=0', 'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0'}
    small = Bench(bench.root / 'small', config='iaat/digits.py:supervised', base=settings, environment=quick)

    def entries() -> list[Path]:
        return sorted(cache.glob('compiled/*/*-cache'))

    def damage():
        for number, entry in enumerate(entries()):
            content = entry.read_bytes()
            entry.write_bytes((content[: len(content) // 2], b'', b'\0garbage' * 99)[number % 3])

    def exchange():
        """Puts every program in place of the next one."""
        contents = [entry.read_bytes() for entry in entries()]
        for entry, content in zip(entries(), contents[1:] + contents[:1], strict=True):
            entry.write_bytes(content)

    def open_to_all(folder: Path):
        exchange()
        folder.chmod(0o777)

    def another_user():
        exchange()
        os.chown(entries()[0].parent, 12345, -1)

    faults = {
        'as it should be': (lambda: None, ''),
        'programs cut off, emptied, garbage': (damage, ''),
        'a folder above it that others may write in': (lambda: open_to_all(cache), 'others may write in'),
        'a folder that others may write in': (lambda: open_to_all(entries()[0].parent), 'others may write in'),
    }
    if os.geteuid() == 0:
        faults['a folder of another user'] = (another_user, 'belongs to another user')
    for name, (fault, said) in faults.items():
        fault()
        workdir = small.root / f'run{tried}'
        done = _with_cache(small, cache, small.command(workdir))
        if done.returncode:
            failures.append(f'{name}: exit code {done.returncode}: {last_line(done.stderr)}')
        elif failure := small.differs(workdir):
            failures.append(f'{name}: {failure}')
        elif said and (done.stderr.count('\n') != 1 or said not in done.stderr):
            failures.append(f'{name}: it said {done.stderr[:300]!r}')
        elif not entries():
            failures.append(f'{name}: it keeps no programs')
        tried += 1
        if tried == 1:
            shutil.copytree(cache, bench.root / 'sound_programs')
        shutil.rmtree(cache)
        shutil.copytree(bench.root / 'sound_programs', cache)
    notes = (
        'programs cut off, emptied, garbage: compiled again; programs put in place of others where other users may write: '
        'not used, one line'
    )
    return Outcome('cache of compiled programs', tried - 1, tuple(failures), notes)


def _with_cache(bench: Bench, cache: Path, command, **more) -> subprocess.CompletedProcess:
    """The command with a cache of its own, whose programs are checked."""
    environment = {key: value for key, value in bench.environment.items() if key != 'JAX_COMPILATION_CACHE_DIR'}
    environment |= {'GJAX_CACHE': str(cache), **more}
    return subprocess.run(command, env=environment, capture_output=True, check=False, timeout=600, **TEXT)


_MODEL = ('--config=lottery_tickets/digits.py:vae', '--config.train.total_epochs=2', '--config.evaluation.samples=60')
_MODEL += ('--config.net.widths=(4, 8)', '--config.stage=dense', '--config.data.name=digits', '--config.seed=0')
_EXTRACTOR = """
from gjax.train import config

def get_config():
    found = config.load('iaat/digits.py:supervised', {settings!r})
    found.unlock()
    found.experiment = 'extractor'
    return found
"""


def extractor_weights(bench: Bench) -> Outcome:
    """The weights of an extractor exchanged or damaged where they are kept: another protocol's name, or a refusal."""
    root, cache = bench.root / 'extractor', bench.root / 'extractor' / 'cache'
    root.mkdir()
    shorter = {key: value for key, value in bench.settings.items() if not key.startswith('method.')}
    shorter |= {'train.total_epochs': 1, 'train.eval_every_epochs': 1}
    (root / 'extractor.py').write_text(_EXTRACTOR.format(settings=shorter), encoding='utf-8')
    keep = {'JAX_COMPILATION_CACHE_DIR': bench.environment['JAX_COMPILATION_CACHE_DIR']}

    def gjax(*words):
        return _with_cache(bench, cache, [sys.executable, '-m', 'gjax', *words], **keep)

    def measured(text):
        results = json.loads(text)
        return results['protocols']['frechet_distance'], results['metrics']['frechet_distance']

    flags = (*_MODEL, f'--config.evaluation.extractor={root / "extractor.py"}')
    first = gjax('train', f'--workdir={root / "run"}', *flags)
    others = gjax('train', f'--config={root / "extractor.py"}', f'--workdir={root / "other"}', '--config.seed=1')
    if first.returncode or others.returncode:
        return Outcome('weights of an extractor', 1, (last_line(first.stderr or others.stderr),), 'nothing was tried')
    protocol, distance = measured(first.stdout)
    (folder,) = (path for path in (cache / 'extractors').iterdir() if path.is_dir())

    def other_weights():
        shutil.rmtree(folder / 'checkpoints')
        shutil.copytree(root / 'other' / 'checkpoints', folder / 'checkpoints')

    def other_run():
        shutil.rmtree(folder)
        shutil.copytree(root / 'other', folder)

    def damage():
        for file in folder.rglob('*'):
            if file.is_file() and 'checkpoints' in file.parts and file.stat().st_size > 200:
                content = file.read_bytes()
                file.write_bytes(content[:100] + bytes(50) + content[150:])

    sound, failures, said = root / 'sound', [], []
    shutil.copytree(folder, sound)
    faults = {'other weights': other_weights, "another's folder": other_run, 'damage': damage}
    for name, fault in faults.items():
        fault()
        done = gjax('eval', f'--workdir={root / "run"}')
        if done.returncode:
            clear = last_line(done.stderr).startswith('gjax: error: ') and 'Traceback' not in done.stderr
            failures += [] if clear else [f'{name}: exit code {done.returncode}: {last_line(done.stderr)}']
        elif (found := measured(done.stdout))[0] == protocol and found[1] != distance:
            failures.append(f'{name}: another distance of the same name')
        said.append(
            f'{name}: {"refused" if done.returncode else "the same name" if found[0] == protocol else "another name"}'
        )
        shutil.rmtree(folder)
        shutil.copytree(sound, folder)
    return Outcome('weights of an extractor', len(faults), tuple(failures), '; '.join(said))


# Commands one after the other in one process; a process each would take most of its time to start.
_SERIES = """
import contextlib, io, json, sys, warnings
warnings.simplefilter('ignore')
from gjax import cli
from gjax.train.errors import RunError
from gjax.train.store.tickets import load_ticket

def run(words):
    if words[0] != 'ticket':
        return cli.main(words)
    try:
        load_ticket(words[1])
    except RunError as error:
        print(f'gjax: error: {error}', file=sys.stderr)
        return 1

for line in sys.stdin:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = run(json.loads(line))
        except BaseException as error:
            code = repr(error)
    print(json.dumps([code, err.getvalue()]), flush=True)
"""


class Series:
    """gjax commands one after the other in one process, each within a limit of seconds."""

    def __init__(self, environment: dict, cwd: Path | None = None, limit: float = 120.0):
        self._environment, self._cwd, self._limit, self._process = environment, cwd, limit, None

    def run(self, *words: str) -> subprocess.CompletedProcess:
        """How a command ended; the return code is None if it did not."""
        if self._process is None:
            pipes = {'stdin': subprocess.PIPE, 'stdout': subprocess.PIPE, 'stderr': subprocess.DEVNULL, 'text': True}
            command = [sys.executable, '-c', _SERIES]
            self._process = subprocess.Popen(command, env=self._environment, cwd=self._cwd, **pipes)
        self._process.stdin.write(json.dumps(words) + '\n')
        self._process.stdin.flush()
        ready = select.select([self._process.stdout], [], [], self._limit)[0]
        line = self._process.stdout.readline() if ready else ''
        if not line:
            self.close()
            return subprocess.CompletedProcess(
                words, None, '', f'it did not end in {self._limit:.0f} s, or ended the process'
            )
        code, err = json.loads(line)
        return subprocess.CompletedProcess(words, code, '', err)

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


def special(path: Path, kind: str) -> None:
    """Puts a 'pipe', 'socket', 'folder' or 'device' (that gives zeros for ever) at `path`; a device takes root."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == 'pipe':
        os.mkfifo(path)
    elif kind == 'folder':
        path.mkdir()
    elif kind == 'device':
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 5))
    else:
        old = os.getcwd()
        os.chdir(path.parent)  # the name of a socket may have 107 characters
        try:
            socket.socket(socket.AF_UNIX).bind(path.name)
        finally:
            os.chdir(old)


def can_make_devices(folder: Path) -> bool:
    """Whether this process may make a device in `folder`, and open it."""
    try:
        special(folder / 'probe', 'device')
        (folder / 'probe').open('rb').close()
    except OSError:
        return False
    finally:
        (folder / 'probe').unlink(missing_ok=True)
    return True


def irregular_files(bench: Bench) -> Outcome:
    """A pipe, socket, folder or device as an image, a data file, weights, a ticket, a workdir, the file of a result."""
    root, failures, tried = bench.root / 'irregular', [], 0
    root.mkdir()
    series = Series(bench.environment)
    flags = [f'--config.{key}={value}' for key, value in bench.settings.items() if key != 'data.name']
    kinds = ('pipe', 'socket', 'folder', *(['device'] if can_make_devices(root) else []))
    for kind in kinds:
        own = root / kind
        for name in ('image', 'data', 'weights', 'ticket', 'workdir', 'out'):
            if (kind, name) == ('folder', 'workdir'):
                continue
            path, workdir = own / name, own / f'{name}_run'
            if name == 'image':
                path = own / name / 'train' / 'a' / '9.png'
                for split, label, number in ((s, c, i) for s in ('train', 'test') for c in 'ab' for i in range(3)):
                    (own / name / split / label).mkdir(parents=True, exist_ok=True)
                    Image.new('L', (8, 8), number).save(own / name / split / label / f'{number}.png')
            special(path, kind)
            before = _what_is_in(own)
            train = ['train', '--config=iaat/digits.py:iaat', *flags]
            words = {
                'image': [*train, f'--config.data.name=folder:{own / name}', f'--workdir={workdir}'],
                'data': [*train, f'--config.data.name=npz:{path}', f'--workdir={workdir}'],
                'weights': ['train', *_MODEL, f'--config.evaluation.extractor=inception:{path}', f'--workdir={workdir}'],
                'ticket': ['ticket', str(path)],
                'workdir': [*train, f'--workdir={path}'],
                'out': ['eval', f'--workdir={bench.whole}', f'--out={path}'],
            }[name]
            done = series.run(*words)
            written = (kind, name) == ('device', 'out') and done.returncode == 0 and not done.stderr  # it takes everything
            failure = '' if written else one_line(done)
            shutil.rmtree(workdir, ignore_errors=True)
            failure = failure or ('' if _what_is_in(own) == before else 'something was changed')
            failures += [f'{kind} as {name}: {failure}'] if failure else []
            tried += 1
    series.close()
    notes = f'a {", ".join(kinds)} as image, .npz, weights, ticket, workdir, --out: one line, nothing waits or changes'
    return Outcome('no regular file', tried, tuple(failures), notes)


def _what_is_in(folder: Path) -> dict:
    """Every path in a folder with its kind and its inode."""
    return {path: (info.st_mode, info.st_ino) for path in sorted(folder.rglob('*')) for info in [path.lstat()]}


_FETCH = """
import sys
from pathlib import Path
from gjax.data.downloads import File, fetch
fetch(File('a.zip'), Path(sys.argv[1]), mirror=sys.argv[2])
"""


def downloads(bench: Bench) -> Outcome:
    """Servers that cut off, break, or send a page; downloads that are killed: the whole file, or none."""
    from gjax.data.dataset import DataError
    from gjax.data.downloads import File, fetch

    failures, tried = [], 0
    with serving() as server:
        for name in KINDS:
            content = whole_file(name)
            faults = {
                'a short body': (len(content), content[:-1]),
                'a short body of no announced length': (None, content[: len(content) // 3]),
                'a broken transfer': ('chunks', content[: len(content) // 3]),
                'a page': (len(PAGE), PAGE),
                'nothing': (0, b''),
            }
            folder = bench.root / 'downloads' / name
            for fault, answer in faults.items():
                server.files[name] = answer
                tried += 1
                try:
                    fetch(File(name), folder, mirror=server.url)
                    failures.append(f'{name}, {fault}: it was kept')
                except DataError as error:
                    if not str(error).isprintable() or '--mirror' not in str(error):
                        failures.append(f'{name}, {fault}: it said {error}')
                if folder.exists() and any(folder.iterdir()):
                    failures.append(f'{name}, {fault}: something is left')
            server.files[name] = (len(content), content)
            if fetch(File(name), folder, mirror=server.url).read_bytes() != content:
                failures.append(f'{name}: not what was sent')
        folder, content = bench.root / 'downloads' / 'killed', whole_file('a.zip')
        server.files['a.zip'] = ('waits', content[:2000])
        process = subprocess.Popen([sys.executable, '-c', _FETCH, str(folder), server.url], env=bench.environment)
        bench.until(process, lambda: folder.exists() and any(folder.iterdir()))
        process.send_signal(signal.SIGKILL)
        process.wait()
        tried += 1
        left = [path.name for path in folder.iterdir()]
        server.files['a.zip'] = (len(content), content)
        if fetch(File('a.zip'), folder, mirror=server.url).read_bytes() != content:
            failures.append('a killed download: not what was sent')
        if len(left) != 1 or [path.name for path in folder.iterdir()] != ['a.zip']:
            failures.append(f'a killed download left {left}, which was not swept')
    notes = (
        'short, broken, a page in place of the file, killed: one line that says what to do, nothing kept, what is left swept'
    )
    return Outcome('downloads', tried, tuple(failures), notes)
