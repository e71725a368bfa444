"""What data costs: images/s of reading alone, and the share of training that is spent waiting for data.

All sets are made on the spot. Every stream is opened once and stays open while the others are measured; while nobody takes
from it, it stops by itself when its buffers are full, and what it then holds is not counted.
"""

import contextlib
import dataclasses
import itertools
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks import content, measure
from experiments.benchmarks.peer import Peer
from gjax import data
from gjax.methods.core.contract import Role
from gjax.train import config, progress
from gjax.train.devices import data_mesh
from gjax.train.errors import RunError
from gjax.train.feeds import Resident, Streamed, make_pools
from gjax.train.run import MAX_WORKERS, Run

ENDLESS = 10**6  # steps, of which only the first are read
COMPARED = 12  # images of which both sides must have the same pixels
LOADER = 'experiments.benchmarks.torch.loader'


@dataclasses.dataclass(frozen=True)
class Case:
    """A set to read. steps: batches of a chunk. peer: the data set of `torch.loader` that reads the same files."""

    title: str
    dataset: data.Dataset
    batch_size: int
    steps: int
    peer: tuple[str, tuple]


def cases(root: Path, scale: content.Scale) -> list[Case]:
    """The sets that `content.make` has written."""
    small, large = scale.small, scale.large

    def folder(name, side):
        return data.find(f'folder:{root / name}', image_size=side), ('folder', (str(root / name / 'train'), side))

    records = data.find(content.RECORDS, str(root / 'records'))
    peer = 'prepared', (content.RECORDS, str(root / 'records'))
    digits, photos = folder('digits', small), folder('photos', large)
    return [
        Case(f'PNG records (TFDS), {small} px', records, scale.small_batch, 4, peer),
        Case(f'folder of JPEGs, {small} px', digits[0], scale.small_batch, 4, digits[1]),
        Case(f'folder of JPEGs, resized to {large} px', photos[0], scale.large_batch, 2, photos[1]),
    ]


def check_same_pixels(case: Case, peer: Peer) -> None:
    """RunError unless both sides read the same images and labels from the same files."""
    rows = np.linspace(0, len(case.dataset.train) - 1, COMPARED).astype(int)
    ours = case.dataset.train.read(rows)
    images, labels = peer.call('examples', *case.peer, rows.tolist())
    if not (np.array_equal(ours.images, images) and np.array_equal(ours.labels, labels)):
        raise RunError(f'{case.title}: gjax and the DataLoader do not read the same pixels; no comparison is fair')


def _held(workers: int, steps: int) -> int:
    """How many chunks of `steps` batches an open stream may hold ready: two, and what Grain's workers have buffered."""
    return 2 + -(-6 * max(1, workers) // steps)


def _pools(case: Case):
    """(sets, pools): the training split as the only role's."""
    datasets = {'source': case.dataset}
    return datasets, make_pools({'': Role(('source',))}, datasets, case.batch_size, jax.random.key(0))


@contextlib.contextmanager
def in_memory(case: Case, mesh):
    """A context that gives (an endless iterator whose items are batches gathered on the device, images of an item)."""
    feed = Resident(*_pools(case), mesh)
    feed.load()
    steps = min(50, len(case.dataset.train) // case.batch_size)  # as many as a compiled call of the engine takes

    @jax.jit
    def call(source, first):
        read = feed.begin(source, first, steps)
        return jax.lax.fori_loop(1, steps, lambda i, batches: read(i, first + i), read(0, first))

    with feed.chunks(0, itertools.repeat(steps)) as sources:
        calls = (call(source, jnp.int32(i * steps)) for i, source in enumerate(sources))
        yield (jax.block_until_ready(batch) for batch in calls), steps * case.batch_size


@contextlib.contextmanager
def streamed(case: Case, mesh, workers: int):
    """The same of batches that arrive from a stream as global arrays."""
    feed = Streamed(*_pools(case), mesh, num_steps=ENDLESS, max_steps=case.steps, workers=workers)
    with feed.chunks(0, itertools.repeat(case.steps)) as chunks:
        yield (jax.block_until_ready(chunk) for chunk in chunks), case.steps * case.batch_size


def _readers(case: Case, mesh, workers, peer: Peer | None, seconds: float, stack: contextlib.ExitStack):
    """Opens every way to read a set; yields (row of the results, function that measures images/s)."""
    row = {'set': case.title, 'batch_size': case.batch_size}
    items, images = stack.enter_context(in_memory(case, mesh))
    yield row | {'reader': 'in memory', 'workers': None}, partial(measure.rate, items, images, 0, seconds)
    for count in workers:
        started = time.monotonic()
        items, images = stack.enter_context(streamed(case, mesh, count))
        next(items)
        first = {'workers': count, 'seconds_to_first_batch': time.monotonic() - started}
        visit = partial(measure.rate, items, images, _held(count, case.steps), seconds)
        yield row | {'reader': 'streamed'} | first, visit
        if peer:
            stream, first['seconds_to_first_batch'] = peer.call('start', *case.peer, case.batch_size, count)
            held = 3 * count  # two batches a worker are the DataLoader's default
            visit = partial(peer.call, 'images_per_second', stream, case.batch_size, held, seconds)
            yield row | {'reader': 'torch'} | first, visit


def reading(every: list[Case], workers, peer: Peer | None, seconds: float, repetitions: int) -> list[dict]:
    """images/s of each set in memory, streamed, and (with a peer) through torch's DataLoader; one dict for each."""
    mesh = data_mesh()
    with contextlib.ExitStack() as stack:
        rows, visits = zip(
            *(pair for case in every for pair in _readers(case, mesh, workers, peer, seconds, stack)), strict=True
        )
        values = measure.interleaved(visits, repetitions, 'reading')
        if peer:
            peer.call('stop')
    return [row | {'images_per_second': rates} for row, rates in zip(rows, values, strict=True)]


def tasks(root: Path, scale: content.Scale) -> dict[str, tuple[str, dict]]:
    """What is trained: title -> (config, overrides)."""
    endless = {'train.total_steps': ENDLESS, 'train.eval_every_epochs': 0, 'train.checkpoint_every_epochs': 0}
    digits = {
        'data.name': f'folder:{root / "digits"}',
        'data.image_size': scale.small,
        'train.batch_size': scale.small_batch,
    }
    photos = {
        'data.name': f'folder:{root / "photos"}',
        'data.image_size': scale.large,
        'train.batch_size': scale.large_batch,
    }
    photos |= {'net.widths': (16, 32, 64, 64, 64)}

    def task(variant, overrides, steps_per_call):
        return f'iaat/digits.py:{variant}', endless | overrides | {'train.steps_per_call': steps_per_call}

    return {
        f'small_cnn, {scale.small} px': task('supervised', digits, 10),
        f'small_cnn under a 5-step attack, {scale.small} px': task('adversarial_training', digits, 4),
        f'small_cnn of 5 layers, {scale.large} px': task('supervised', photos, 2),
    }


class Training:
    """A run of the engine that goes on a little with every visit."""

    def __init__(self, spec: str, overrides: dict, workers: int | None):
        streaming = {'data.streaming': workers is not None, 'data.workers': workers or 0}
        self._config = config.load(spec, overrides | streaming)
        self._held = 0 if workers is None else _held(workers, self._config.train.steps_per_call)
        self._run, self._step, self._rest = Run(self._config), 0, True
        self._calls = self._run.advance(self._run.init(), 0, rest=lambda: self._rest)
        self._advance()

    def _advance(self):
        _, self._step, _ = next(self._calls)

    def visit(self, seconds: float) -> dict[str, float]:
        """{'examples_per_second', 'data_wait_share'} of about so many seconds, as the engine itself measures them."""
        self._rest = False
        for _ in range(self._held):
            self._advance()
        batch_size, steps_per_call = self._config.train.batch_size, self._config.train.steps_per_call
        speed, calls, started = progress.Speed(batch_size, self._run.feed), 0, 0.0
        for _, step, _ in speed.timed(self._calls, self._step):
            self._step, calls = step, calls + 1
            started = started or time.monotonic()  # Speed does not count the first call, so neither does this
            if calls > measure.LEAST and time.monotonic() - started >= seconds:
                break
        self._rest = True
        self._advance()  # nothing runs beside the next visit of another
        measured = speed.measured()
        if measured['data_wait_share'] > 0.01:  # else the buffers are full
            measure.pause(self._held * steps_per_call * batch_size / measured['examples_per_second'])
        return measured

    def close(self):
        self._calls.close()


def training(todo: dict[str, tuple[str, dict]], workers, seconds: float, repetitions: int) -> list[dict]:
    """examples/s and data_wait_share of each task with the data in memory and streamed; one dict for each."""
    rows, visits = [], []
    with contextlib.ExitStack() as stack:
        for title, (spec, overrides) in todo.items():
            for count in (None, *workers):
                trained = stack.enter_context(contextlib.closing(Training(spec, overrides, count)))
                visits.append(partial(trained.visit, seconds))
                rows.append({'task': title, 'batch_size': overrides['train.batch_size'], 'workers': count})
        values = measure.interleaved(visits, repetitions, 'training')
    names = ('examples_per_second', 'data_wait_share')
    return [row | {n: [value[n] for value in given] for n in names} for row, given in zip(rows, values, strict=True)]


def text(results: dict) -> str:
    """Markdown of what `run` gave."""
    settings = results['settings']
    return (
        f'{measure.machine_line(results["machine"])}\nMedian (least - most) of {settings["repetitions"]} repetitions of '
        f'{settings["seconds"]:g} s.\n\n**Reading alone, images/s**\n\n{_reading_table(results["reading"])}\n'
        f'**Training, and the share of its time that it waits for data**\n\n{_training_table(results["training"])}\n'
        f'{_needs(results["reading"])}'
    )


def _workers(count: int | None) -> str:
    return 'in memory' if count is None else f'{count}'


def _reading_table(rows: list[dict]) -> str:
    torch = {(row['set'], row['workers']): row for row in rows if row['reader'] == 'torch'}
    columns = ['set', 'batch', 'workers', 'gjax', 'first batch (s)']
    if torch:
        columns += ['torch DataLoader', 'first batch (s)', 'gjax / torch']
    lines = []
    for row in rows:
        if row['reader'] != 'torch':
            line = [row['set'], row['batch_size'], _workers(row['workers']), measure.shown(row['images_per_second'])]
            line.append(f'{row["seconds_to_first_batch"]:.1f}' if row['reader'] == 'streamed' else '')
            if other := torch.get((row['set'], row['workers'])):
                pairs = zip(row['images_per_second'], other['images_per_second'], strict=True)
                line += [measure.shown(other['images_per_second']), f'{other["seconds_to_first_batch"]:.1f}']
                line.append(measure.shown([ours / theirs for ours, theirs in pairs], 2))
            lines.append(line + [''] * (len(columns) - len(line)))
    return measure.table(columns, lines)


def _training_table(rows: list[dict]) -> str:
    columns = ['network', 'batch', 'workers', 'examples/s', 'ms a step', 'waits for data (%)']
    lines = []
    for row in rows:
        rates = row['examples_per_second']
        step = 1000 * row['batch_size'] / statistics.median(rates)
        waits = measure.shown(row['data_wait_share'], 1, scale=100)
        lines.append([row['task'], row['batch_size'], _workers(row['workers']), measure.shown(rates), f'{step:,.1f}', waits])
    return measure.table(columns, lines)


def _needs(rows: list[dict]) -> str:
    """How many cores must decode for an accelerator of a given speed."""
    best: dict[str, float] = {}
    for row in rows:
        if row['reader'] == 'streamed' and row['workers']:
            each = statistics.median(row['images_per_second']) / row['workers']
            best[row['set']] = max(each, best.get(row['set'], 0.0))
    lines = [
        f'- {title}: a worker process reads {each:,.0f} images/s; 2,500 images/s take {2500 / each:.1f}, 10,000 take '
        f'{10000 / each:.1f} of them, each on a core of its own.\n'
        for title, each in best.items()
    ]
    head = (
        'To keep an accelerator busy, data must arrive at batch size / step time (256 images in 0.1 s: 2,560 images/s).\n\n'
    )
    return head + ''.join(lines) if lines else ''


def add_options(parser) -> None:
    parser.add_argument('--peer', default='', metavar='torch', help="also measure PyTorch's DataLoader on the same files")
    parser.add_argument('--workers', default='0,1,2', metavar='0,1,2', help='numbers of worker processes (default 0,1,2)')
    parser.add_argument('--seconds', type=float, default=0.8, help='of each measurement and repetition (default 0.8)')


def run(arguments) -> dict:
    """The results for the command line's options.

    Raises:
      RunError: an option is not allowed, or the peer is not installed.
    """
    try:
        workers = tuple(dict.fromkeys(int(word) for word in arguments.workers.split(',')))
    except ValueError:
        workers = (-1,)
    if not all(0 <= count <= MAX_WORKERS for count in workers):
        raise RunError(f'--workers is {arguments.workers!r}; allowed: comma-separated numbers 0..{MAX_WORKERS}')
    if arguments.peer not in ('', 'torch'):
        raise RunError(f'--peer is {arguments.peer!r}; allowed: torch')
    if not arguments.seconds > 0:
        raise RunError(f'--seconds is {arguments.seconds}; allowed: > 0')
    return results(workers, arguments.peer, arguments.seconds)


def results(workers, peer: str, seconds: float, repetitions: int = 5, scale: content.Scale | None = None) -> dict:
    """The content of data.json, after some minutes."""
    scale, machine = scale or content.Scale(), measure.machine()
    with tempfile.TemporaryDirectory() as temporary, contextlib.ExitStack() as stack:
        root = Path(temporary)
        other = stack.enter_context(Peer(peer, LOADER)) if peer else None
        content.make(root, scale)
        every = cases(root, scale)
        for case in every if other else ():
            check_same_pixels(case, other)
        read = reading(every, workers, other, seconds, repetitions)
        trained = training(tasks(root, scale), workers, seconds, repetitions)
    settings = {'seconds': seconds, 'repetitions': repetitions, 'scale': dataclasses.asdict(scale)}
    return {'machine': machine, 'settings': settings, 'reading': read, 'training': trained}
