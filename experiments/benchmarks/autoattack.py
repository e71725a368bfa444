"""AutoAttack's standard version beside the authors' code (`pyautoattack`, PyTorch in eager mode, as it runs), each attack
alone; part of the suite `attacks`.

The network's weights are random, the labels are what it says, and the radius is so small that nearly all images stand:
both sides do all the work that there is, and must leave as many standing.
"""

import importlib.util
import statistics
import time
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks import measure, steps
from experiments.benchmarks.peer import Peer
from experiments.benchmarks.works import SGD, Work, build
from gjax import attacks
from gjax.train.errors import RunError

EPS = 0.1 / 255
NAMES = {'apgd_ce': 'apgd-ce', 'apgd_targeted': 'apgd-t', 'fab_targeted': 'fab-t', 'square': 'square'}  # ours, theirs
WORK = Work(
    'small_cnn, 32 px',
    {'method.name': 'supervised', 'net.name': 'small_cnn', 'train.batch_size': 8, **SGD},
    'small_cnn',
    {'widths': (16, 32, 64), 'hidden': 64, 'attack_steps': 0},
)


def add_options(parser) -> None:
    parser.add_argument('--autoattack', type=int, default=64, metavar='IMAGES', help='attacked by AutoAttack; 0: left out')


def results(peer: Peer | None, count: int, repetitions: int) -> dict:
    """Seconds of each attack of the standard version in every repetition, of gjax and of the peer, and the images that
    stood after it in the first; RunError if the two differ by more than a fiftieth of the images.
    """
    if peer is not None and importlib.util.find_spec('pyautoattack') is None:
        raise RunError(
            '--autoattack needs pyautoattack beside torch; run: pip install --no-deps pyautoattack, or --autoattack=0'
        )
    run, programs = build(WORK), {}
    state, pixels = run.init(), steps.training_split(run)[0]
    logits_fn = partial(run.method.logits, state)
    rows = np.random.default_rng(0).integers(len(pixels), size=count)
    images = pixels[rows].astype(np.float32) / 255
    labels = np.asarray(jnp.argmax(logits_fn(images), axis=1)).astype(np.int32)

    def once(function):
        return programs.setdefault(function.__name__, jax.jit(function))

    def own(name: str) -> tuple[float, float]:
        started = time.monotonic()
        options = {'rng': jax.random.key(0), 'version': 'custom', 'attacks': [name], 'batch_sizes': [count], 'compile': once}
        found = attacks.autoattack(logits_fn, images, labels, EPS, **options)
        return time.monotonic() - started, count * found.accuracies[-1]

    visits = {('gjax', name): partial(own, name) for name in NAMES}
    compiling = sum(visit()[0] for visit in visits.values())
    if peer is not None:
        variables = {'classifier': jax.device_get((state.params['classifier'], state.batch_stats['classifier']))}
        steps.prepare(peer, run, WORK, variables, measure.cores())
        for name, other in NAMES.items():
            visits['torch', name] = partial(peer.call, 'autoattacked', other, images, labels, EPS)
    pairs = sorted(visits, key=lambda pair: list(NAMES).index(pair[1]))  # the two sides of an attack after each other
    values = dict(zip(pairs, measure.interleaved([visits[p] for p in pairs], repetitions, 'autoattack'), strict=True))
    seconds, standing = {}, {}
    for (side, name), given in values.items():
        seconds.setdefault(side, {})[name] = [value for value, _ in given]
        standing.setdefault(side, {})[name] = given[0][1]
    for name in NAMES if peer is not None else ():
        mine, theirs = standing['gjax'][name], standing['torch'][name]
        if abs(mine - theirs) > count / 50:
            raise RunError(f'{name} leaves {mine:g} of {count} images standing, and {theirs:g} in torch')
    return {'images': count, 'compiling': compiling, 'seconds': seconds, 'standing': standing['gjax']}


def text(results: dict) -> str:
    """Markdown."""
    seconds, count, rows = results['seconds'], results['images'], []

    def row(name, own, other):
        ratios = [a / b for a, b in zip(own, other or own, strict=True)]
        rows.append(
            [name, measure.shown(own, 1), *([measure.shown(other, 1), measure.shown(ratios, 2)] if other else ['', ''])]
        )

    theirs = seconds.get('torch', {})
    for name, own in seconds['gjax'].items():
        row(name, own, theirs.get(name))
    sums = [[sum(values) for values in zip(*side.values(), strict=True)] for side in (seconds['gjax'], theirs)]
    row('together: the standard version', *sums)
    first = results['compiling'] - sum(statistics.median(own) for own in seconds['gjax'].values())
    line = (
        f'AutoAttack, linf, on {WORK.title}, float32, {count} images that nearly all stand to the end; seconds, median '
        f"(least - most) of {len(sums[0])} repetitions. The first time gjax's programs took about {max(first, 0):.0f} s "
        'more, to compile.'
    )
    return f'{line}\n\n{measure.table(["attack", "gjax (s)", "pyautoattack, torch eager (s)", "gjax / this"], rows)}'
