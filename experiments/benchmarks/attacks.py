"""Evaluation under attack beside plain PyTorch's: PGD on batches of images, one random start, and what is still right.

The network's weights are random, as those of training steps: they do not change how long it takes. Both sides first attack
the same images from the same start, and must find images of the same loss. After that AutoAttack (autoattack.py).
"""

import statistics
import time
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks import autoattack, measure, steps
from experiments.benchmarks.peer import Peer
from experiments.benchmarks.works import WORKS, build
from gjax import attacks
from gjax.losses import correct, cross_entropy
from gjax.train.devices import compiled
from gjax.train.errors import RunError

WORK = 'pgd10'  # whose network and radius these are
IMAGES = 10_000  # to which the table scales


def add_options(parser) -> None:
    steps.add_peer_options(parser)
    parser.add_argument('--steps', type=int, default=50, help='of PGD')
    parser.add_argument('--batch', type=int, default=128, help='images attacked together')
    autoattack.add_options(parser)


def ours(run, attack_steps: int):
    """(state, images, labels, rng) -> (share that is still right, attacked images), compiled."""
    method, sizes = run.method, WORKS[WORK].sizes

    def evaluate(state, images, labels, rng):
        logits_fn = partial(method.logits, state)
        options = {'rng': rng, 'steps': attack_steps, 'step_size': sizes['step_size']}
        found = attacks.pgd(logits_fn, images, labels, sizes['eps'], **options)
        return jnp.mean(correct(logits_fn(found), labels).astype(jnp.float32)), found

    return compiled(evaluate, run.mesh)


def check(peer: Peer, run, attack_steps: int) -> float:
    """The relative difference between the two sides' mean losses on what they found; RunError if above a hundredth: signs of
    gradients near zero differ, and each then goes on elsewhere.
    """
    state, sizes, count = run.init(), WORKS[WORK].sizes, run.config.train.batch_size
    rng = np.random.default_rng(0)
    images = rng.uniform(size=(count, *run.info.image_shape)).astype(np.float32)
    labels = (np.arange(count) % run.info.num_classes).astype(np.int32)
    key = jax.random.key(0)
    start = np.asarray(sizes['eps'] * jax.random.uniform(key, images.shape, jnp.float32, -1.0, 1.0))
    with jax.default_matmul_precision('highest'):
        found = ours(run, attack_steps)(state, images, labels, key)[1]
    other = peer.call('attacked', images, labels, start, attack_steps)
    mine, theirs = (float(jnp.mean(cross_entropy(run.method.logits(state, x), labels))) for x in (found, jnp.asarray(other)))
    clean = float(jnp.mean(cross_entropy(run.method.logits(state, images), labels)))
    difference = abs(mine - theirs) / abs(mine - clean)
    if difference > 0.01:
        raise RunError(f'attacked images have a loss of {mine} here and of {theirs} in torch; clean ones of {clean}')
    return difference


def results(peer: Peer | None, modes, attack_steps: int, batch: int, repetitions: int) -> dict:
    """Milliseconds a batch of every repetition, of gjax and of the peer's modes."""
    machine, work = measure.machine(), WORKS[WORK]
    run = build(work, {'train.batch_size': batch, 'data.padding': 0, 'data.flip': False})
    pixels, labels = steps.training_split(run)
    evaluate, state, rng = ours(run, attack_steps), run.init(), np.random.default_rng(0)

    def visit() -> float:
        started = time.monotonic()
        rows = rng.integers(len(pixels), size=batch)
        images = pixels[rows].astype(np.float32) / 255
        right, _ = evaluate(state, images, labels[rows].astype(np.int32), jax.random.key(0))
        float(right)
        return 1000 * (time.monotonic() - started)

    visit()
    visits, row = {'gjax': visit}, {'steps': attack_steps, 'batch': batch}
    if peer is not None:
        variables = {'classifier': jax.device_get((state.params['classifier'], state.batch_stats['classifier']))}
        steps.prepare(peer, run, work, variables, measure.cores())
        row['difference'] = check(peer, run, min(attack_steps, 10))
        for mode in modes:
            peer.call('attack_milliseconds', mode, 1, 1)  # compiles
            visits[mode] = lambda mode=mode: peer.call('attack_milliseconds', mode, attack_steps, 1)
    values = measure.interleaved(list(visits.values()), repetitions, 'attacks')
    return {'machine': machine, **row, 'milliseconds': dict(zip(visits, values, strict=True))}


def run(arguments) -> dict:
    for option in ('steps', 'batch'):
        if getattr(arguments, option) < 1:
            raise RunError(f'--{option} is {getattr(arguments, option)}; allowed: at least 1')
    if arguments.autoattack < 0:
        raise RunError(f'--autoattack is {arguments.autoattack}; allowed: at least 0')
    context, modes = steps.peer_of(arguments)
    with context as peer:
        found = results(peer, modes, arguments.steps, arguments.batch, arguments.repetitions)
        if arguments.autoattack:
            found['autoattack'] = autoattack.results(peer, arguments.autoattack, arguments.repetitions)
        return found


def text(results: dict) -> str:
    """Markdown."""
    rows, times, batch = [], results['milliseconds'], results['batch']
    for side, values in times.items():
        ratios = [own / other for own, other in zip(times['gjax'], values, strict=True)]
        whole = statistics.median(values) / 1000 * IMAGES / batch
        name = side if side == 'gjax' else f'torch {side}'
        rows.append([name, measure.shown(values, 1), f'{whole:,.0f}', measure.shown(ratios, 2)])
    columns = ['side', f'batch of {batch} (ms)', f'so {IMAGES:,} images (s)', 'gjax / this']
    line = f'PGD-{results["steps"]} on WRN-10-2, 32 px, float32; median (least - most) of {len(times["gjax"])} batches.'
    whole = f'{measure.machine_line(results["machine"])}\n{line}\n\n{measure.table(columns, rows)}'
    return f'{whole}\n{autoattack.text(results["autoattack"])}' if 'autoattack' in results else whole
