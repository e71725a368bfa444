"""Training steps, data and augmentation included, beside plain PyTorch's of the same networks, batches and optimisers.

gjax's side is the engine's compiled loop over a set in memory. PyTorch's (torch/works.py) is checked first, in every mode:
from the same weights, on the same batch and noise, it has the same losses, and after a step again where rounding allows it.
"""

import contextlib
import math
import statistics
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks import measure
from experiments.benchmarks.peer import Peer
from experiments.benchmarks.works import WORKS, Work, build, compared, step_flops, timer
from gjax.train.devices import compiled
from gjax.train.errors import RunError
from gjax.train.run import Run

MODES = ('eager', 'channels_last', 'compile')  # in which torch runs a step
TOLERANCE = 1e-4  # between the first losses of the two sides, of losses above 1 relative
LATER = 5e-3  # after a step of some player, which multiplies rounding
DTYPES = ('float32', 'bfloat16')  # of the arithmetic; the rest of a step is float32 on both sides
PEAK_SIZE = 1024  # of the square matrices whose product is the peak


def add_peer_options(parser) -> None:
    """What the suites with a peer share."""
    parser.add_argument('--peer', default='', help=f'torch: measure PyTorch beside it, in {", ".join(MODES)}')
    parser.add_argument('--modes', default=','.join(MODES), help="the peer's")
    parser.add_argument('--repetitions', type=int, default=3, help='measurements of each, in turns')


def peer_of(arguments):
    """(a context that is the peer, or None without one; its modes). RunError for options that are not allowed."""
    modes = arguments.modes.split(',')
    for name in modes:
        if name not in MODES:
            raise RunError(f'--modes has {name!r}; known: {", ".join(MODES)}')
    if arguments.peer not in ('', 'torch'):
        raise RunError(f'--peer is {arguments.peer!r}; known: torch')
    if arguments.repetitions < 1:
        raise RunError(f'--repetitions is {arguments.repetitions}; allowed: at least 1')
    if not arguments.peer:
        return contextlib.nullcontext(), modes
    if jax.default_backend() not in ('cpu', 'gpu'):
        raise RunError(f'--peer is torch, JAX runs on {jax.default_backend()}; allowed: on a CPU or a GPU')
    if jax.device_count() > 1:
        raise RunError(f'--peer is torch, JAX has {jax.device_count()} devices; allowed: one, as the peer')
    return Peer('torch', 'experiments.benchmarks.torch.steps'), modes


def add_options(parser) -> None:
    add_peer_options(parser)
    parser.add_argument('--works', default=','.join(WORKS), help=f'which of: {", ".join(WORKS)}')
    parser.add_argument('--dtype', default='float32', help='of the arithmetic: float32 or bfloat16')
    parser.add_argument('--seconds', type=float, default=2.0, help='of one measurement, at least')


def matrix_peak(dtype: str = 'float32') -> float:
    """GFLOP/s of the product of two square matrices, the best of several."""
    size = PEAK_SIZE if jax.default_backend() == 'cpu' else 8 * PEAK_SIZE
    a = jnp.ones((size, size), dtype) / size
    product = jax.jit(lambda a: a @ a)
    product(a).block_until_ready()
    best = math.inf
    for _ in range(10):
        started = time.monotonic()
        for _ in range(5):
            a = product(a)
        a.block_until_ready()
        best = min(best, (time.monotonic() - started) / 5)
    return 2 * size**3 / best / 1e9


def sizes_of(run: Run, work: Work) -> dict:
    """What the peer is built from."""
    side, _, channels = run.info.image_shape
    spec = run.config.optimizer
    optimizer = {'rate': spec.learning_rate, 'b1': spec.get('b1', 0.9), 'b2': spec.get('b2', 0.999)}
    optimizer |= {'momentum': spec.get('momentum', 0.0), 'decay': spec.get('weight_decay', 0.0)}
    own = {'side': side, 'channels': channels, 'classes': run.info.num_classes, 'optimizer': optimizer}
    pair = work.kind == 'generate_to_adapt'
    own |= {'rows': run.config.train.batch_size * (1 + pair), 'padding': run.config.data.padding}
    return own | work.sizes


def draws_of(run: Run, work: Work, state) -> list[np.ndarray]:
    """The random numbers of the method's next step, as it draws them."""
    rng, count = state.step_rng(), run.config.train.batch_size
    if work.kind == 'generate_to_adapt':
        return [np.asarray(jax.random.normal(key, (count, run.method.net.noise))) for key in jax.random.split(rng)]
    if work.kind == 'gan':
        keys = [jax.random.split(key)[0] if i == 0 else key for i, key in enumerate(jax.random.split(rng))]
        return [np.asarray(jax.random.normal(key, (count, run.method.net.latent))) for key in keys]
    if work.kind == 'flow':
        key = jax.random.split(rng)[1]
        return [np.asarray(jax.random.uniform(key, (count, *run.info.image_shape)))]
    if work.kind == 'iaat':
        selection, attack = jax.random.split(rng)
        shape, keys = (count, *run.info.image_shape), (*jax.random.split(selection), attack)
        return [np.asarray(jax.random.uniform(key, shape, jnp.float32, -1.0, 1.0)) for key in keys]
    if work.sizes.get('attack_steps'):
        eps = work.sizes['eps']
        shape = (count, *run.info.image_shape)
        return [np.asarray(eps * jax.random.uniform(rng, shape, jnp.float32, -1.0, 1.0))]
    return []


def converged(stats, params):
    """Batch statistics whose power iterations have ended: the two sides take half a step each before or after the other."""
    if not isinstance(stats, dict):
        return stats
    new = {}
    for key, value in stats.items():
        if key.startswith('SpectralNorm'):
            new[key] = dict(value)
            for name in (name for name in value if name.endswith('/kernel/u')):
                kernel = params[name.split('/')[0]]['kernel']
                right = np.linalg.svd(kernel.reshape(-1, kernel.shape[-1]), full_matrices=False)[2]
                new[key][name] = jnp.asarray(right[:1])
        else:
            new[key] = converged(value, params.get(key, {}))
    return new


def first_steps(run: Run, work: Work):
    """(variables, images, labels, draws, losses) of the first steps, on one batch: what the peer must do again."""
    count = run.config.train.batch_size
    state, labels = run.init(), np.arange(count) % run.info.num_classes
    state = state.replace(batch_stats=converged(state.batch_stats, jax.device_get(state.params)))
    if work.kind == 'iaat':
        state = state.replace(memory={'radius': jnp.full_like(state.memory['radius'], work.sizes['eps'])})
    images = np.random.default_rng(0).uniform(size=(2, count, *run.info.image_shape)).astype(np.float32)
    batch = {'image': jnp.asarray(images[0]), 'label': jnp.asarray(labels, jnp.int32), 'index': jnp.arange(count)}
    if len(run.pools) > 1:
        batch = {'source': batch, 'target': {'image': jnp.asarray(images[1]), 'index': jnp.arange(count)}}
    variables = {player: jax.device_get((state.params[player], state.batch_stats[player])) for player in state.params}
    found, draws, step = [], [], compiled(run.method.step, run.mesh)
    for _ in range(work.checked):
        draws.append(draws_of(run, work, state))
        with jax.default_matmul_precision('highest'):  # a GPU's default is TF32
            state, metrics = step(state, batch)
        found.append({name[5:]: float(value) for name, value in metrics.items() if name.startswith('loss/')})
    if work.kind == 'generate_to_adapt':
        images, labels = images.reshape(-1, *images.shape[2:]), np.tile(labels, 2)
    else:
        images = images[0]
    return variables, images, labels, draws, found


def training_split(run: Run):
    """What the first role draws from, on the host: uint8 images and labels."""
    train = next(iter(run.pools.values())).records
    examples = train.read(np.arange(len(train)))
    return np.asarray(examples.images), np.asarray(examples.labels)


def prepare(peer: Peer, run: Run, work: Work, variables: dict, threads: int, dtype: str = 'float32') -> None:
    """Gives the peer what it works on."""
    device = 'cpu' if jax.default_backend() == 'cpu' else 'cuda'
    peer.call('prepare', work.kind, sizes_of(run, work), variables, *training_split(run), threads, device, dtype)


def difference(peer: Peer, mode: str, work: Work, images, labels, draws, ours) -> float:
    """The largest difference between the first losses of the peer and ours; RunError where one is above its limit."""
    theirs, largest = peer.call('losses', mode, images, labels, draws, work.sizes), 0.0
    for number, (own, other) in enumerate(zip(ours, theirs, strict=True)):
        for place, (player, value) in enumerate(other.items()):
            apart, first = abs(own[player] - value) / max(1.0, abs(own[player])), not number and not place
            if not apart <= (TOLERANCE if first else LATER):
                raise RunError(
                    f'{work.title}, {mode}: the losses of the two sides differ by {apart:.1e}: {ours} and {theirs}'
                )
            largest = max(largest, apart if first else 0.0)
    return largest


def measured(
    name: str, peer: Peer | None, modes, seconds: float, repetitions: int, overrides=None, dtype: str = 'float32'
) -> dict:
    """One row: milliseconds of every repetition, of gjax and of the peer's modes."""
    work = WORKS[name]
    run, threads = build(work, overrides), measure.cores()
    arithmetic = (overrides or {}) | ({} if dtype == 'float32' else {'net.dtype': dtype})
    timed = run if dtype == 'float32' else build(work, arithmetic)
    row = {
        'work': name,
        'title': work.title,
        'batch': run.config.train.batch_size,
        'flops': step_flops(run, work, overrides),
    }
    visit, program = timer(timed, seconds)
    row |= {'cold_seconds': program.cold_seconds, 'warm_seconds': program.warm_seconds, 'memory': {'gjax': program.memory}}
    visits = {'gjax': visit}
    if work.against:
        visits['against'] = timer(build(WORKS[work.against], arithmetic), seconds)[0]
    if peer is not None and work.kind:
        same = compared(work)
        variables, *first = first_steps(run if same is work else build(same, overrides), same)
        prepare(peer, run, work, variables, threads, dtype)
        for mode in modes:
            try:
                began = time.monotonic()
                difference(peer, mode, same, *first)  # compiles
                row['memory'][mode] = peer.call('peak_memory', mode)  # compiles what the check leaves out
                taken = time.monotonic() - began
                once = peer.call('milliseconds', mode, 1)
                if mode == 'compile':
                    made = 2 + (work.checked if same is work else 0)  # steps for the memory, and those checked
                    row['torch_compile_seconds'] = max(0.0, taken - made * once / 1000)
            except RunError as error:  # no compiler, say: the other columns are still worth having
                print(f'{name}: {error}', file=sys.stderr, flush=True)
                continue
            steps = math.ceil(1000 * seconds / once)
            visits[mode] = lambda mode=mode, steps=steps: peer.call('milliseconds', mode, steps)
    values = measure.interleaved(list(visits.values()), repetitions, name)
    row['milliseconds'] = dict(zip(visits, values, strict=True))
    if work.against:
        row['against'] = {'title': WORKS[work.against].title, 'milliseconds': row['milliseconds'].pop('against')}
    medians = ', '.join(f'{side} {statistics.median(own):.1f}' for side, own in row['milliseconds'].items())
    print(f'{name}: {medians} ms a step', file=sys.stderr, flush=True)
    return row


def run(arguments) -> dict:
    works = arguments.works.split(',')
    for name in works:
        if name not in WORKS:
            raise RunError(f'--works has {name!r}; known: {", ".join(WORKS)}')
    if arguments.seconds <= 0:
        raise RunError(f'--seconds is {arguments.seconds}; allowed: > 0')
    if arguments.dtype not in DTYPES:
        raise RunError(f'--dtype is {arguments.dtype!r}; allowed: {", ".join(DTYPES)}')
    whole = set(works) == set(WORKS) and arguments.peer and arguments.dtype == DTYPES[0] and jax.default_backend() == 'cpu'
    if arguments.update_readme and not whole:
        raise RunError(
            '--update_readme is for the whole table; allowed: with --peer=torch, all --works, --dtype=float32, on a CPU'
        )
    context, modes = peer_of(arguments)
    machine = measure.machine()  # with the load of before
    peak = matrix_peak(arguments.dtype)
    results = {'machine': machine, 'dtype': arguments.dtype, 'peak_gflops': peak, 'steps': []}
    with context as peer:
        for name in works:
            options = {'dtype': arguments.dtype}
            results['steps'].append(measured(name, peer, modes, arguments.seconds, arguments.repetitions, **options))
    return results


def best_mode(row: dict) -> str:
    """The peer's fastest mode by the median; '' without a peer."""
    others = {mode: statistics.median(values) for mode, values in row['milliseconds'].items() if mode != 'gjax'}
    return min(others, key=others.get, default='')


def _against(row: dict) -> str:
    """A line about the work that was measured in turns with this one, '' for none."""
    if 'against' not in row:
        return ''
    other = row['against']['milliseconds']
    ratios = measure.shown([a / b for a, b in zip(row['milliseconds']['gjax'], other, strict=True)], 2)
    times = f'in turns with this one {measure.shown(other, 1)} ms'
    return f'\n{row["title"]}: {ratios} times the step of {row["against"]["title"]}, which took {times}.\n'


def summary(results: dict) -> str:
    """Markdown for the README of the project: the best mode of the peer."""
    rows = []
    for row in results['steps']:
        best = best_mode(row)
        if best:
            own, other = row['milliseconds']['gjax'], row['milliseconds'][best]
            ratios = [a / b for a, b in zip(own, other, strict=True)]
            times = [measure.shown(own, 1), f'{measure.shown(other, 1)}, {best}', measure.shown(ratios, 2)]
            rows.append([f'{row["title"]}, batch {row["batch"]}', *times])
    columns = ['training step', 'gjax (ms)', 'best torch (ms)', 'gjax / best torch']
    count = len(results['steps'][0]['milliseconds']['gjax'])
    line = f'Median (least - most) of {count} repetitions; {results["dtype"]}.'
    return f'{measure.machine_line(results["machine"])}\n{line}\n\n{measure.table(columns, rows)}'


def text(results: dict) -> str:
    """Markdown."""
    rows, peak = [], results['peak_gflops']
    modes = [mode for mode in MODES if any(mode in row['milliseconds'] for row in results['steps'])]
    for row in results['steps']:
        times, best = row['milliseconds'], best_mode(row)
        middle = statistics.median(times['gjax'])
        rate = 1000 * row['batch'] / middle
        cells = [
            f'{row["title"]}, batch {row["batch"]}',
            measure.shown(times['gjax'], 1),
            f'{rate:,.{int(rate < 10)}f}',
        ]
        cells += [measure.shown(times[mode], 1) if mode in times else '' for mode in modes]
        if best:
            pairs = zip(times['gjax'], times[best], strict=True)
            cells.append(measure.shown([own / other for own, other in pairs], 2))
        elif modes:
            cells.append('')
        share = row['flops'] / (middle / 1000) / 1e9 / peak
        cells.append(f'{100 * share:.0f}' if row['flops'] else '')
        sides = ('gjax', best) if modes else ('gjax',)
        cells += [f'{row["memory"][side]:,.0f}' if row['memory'].get(side) else '' for side in sides]
        cells.append(f'{row["cold_seconds"]:.1f}, {row["warm_seconds"]:.1f}')
        if 'compile' in modes:
            cells.append(f'{row["torch_compile_seconds"]:.1f}' if 'torch_compile_seconds' in row else '')
        rows.append(cells)
    lines = [_against(row) for row in results['steps']]
    columns = ['training step', 'gjax (ms)', 'images/s', *(f'torch {mode} (ms)' for mode in modes)]
    columns += ['gjax / best torch'] * bool(modes) + ['share of the matrix peak (%)', 'memory (MiB)']
    columns += ['of the best torch (MiB)'] * bool(modes) + ['compilation, and kept (s)']
    columns += ["torch's (s)"] * ('compile' in modes)
    count = len(results['steps'][0]['milliseconds']['gjax'])
    return (
        f'{measure.machine_line(results["machine"])}\nMedian (least - most) of {count} repetitions; {results["dtype"]}; the '
        f'peak, of a product of square matrices, is {peak:,.0f} GFLOP/s.\n\n{measure.table(columns, rows)}{"".join(lines)}'
    )
