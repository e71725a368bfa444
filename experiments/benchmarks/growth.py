"""How the time of a training step grows: with the batch, the steps of an attack, the number of domains in a batch, the steps
that one compiled call takes, and the number of (simulated) devices, which shows what mapping over them costs, not what it
gains.
"""

import os
import tempfile
import time
from pathlib import Path

import jax
import numpy as np

from experiments.benchmarks import measure, steps
from experiments.benchmarks.peer import Peer
from experiments.benchmarks.works import SGD, WORKS, Work, build, timer
from gjax.train.devices import compiled
from gjax.train.errors import RunError

BATCHES = (16, 32, 64, 128, 256, 512)
SHORT = {'train.steps_per_call': 5}  # which the largest batch's epoch allows too
ATTACK_STEPS = (1, 2, 5, 10, 20)
CALLS = (1, 5, 25)
DOMAINS = (2, 4, 8)
LOGGED = 25
DEVICES = (1, 2, 4, 8)
SMALL = Work(
    'small_cnn, 32 px',
    {
        'method.name': 'supervised',
        'net.name': 'small_cnn',
        'net.widths': (8, 16),
        'net.hidden': 32,
        'train.batch_size': 32,
        **SGD,
    },
)
LOOPS = {
    'loop_32': SMALL,
    'loop_8': Work('small_cnn, 8 px', SMALL.config | {'data.name': 'digits', 'data.image_size': 8}),
}

MASKS = Work(
    'Domain-specific masks, batch 64',
    {'method.name': 'dmg', 'net.name': 'masked_cnn', 'train.batch_size': 64, 'optimizer.name': 'adam'},
)


def add_options(parser) -> None:
    parser.add_argument('--seconds', type=float, default=2.0, help='of one measurement, about')
    parser.add_argument('--repetitions', type=int, default=5, help='measurements of each, in turns')


def _timers(work, key: str, values, seconds: float) -> dict:
    return {value: timer(build(work, SHORT | {key: value}), seconds)[0] for value in values}


def _with_domains(counts, seconds: float) -> dict:
    """Timers of a step of DMG whose batch is pooled of so many domains, which are random images."""
    rng, timers = np.random.default_rng(0), {}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(max(counts)):
            images = rng.integers(0, 256, (100, 32, 32, 3), np.uint8)
            arrays = {f'{split}_images': images for split in ('train', 'test')}
            arrays |= {f'{split}_labels': np.arange(100) % 10 for split in ('train', 'test')}
            np.savez(Path(folder, f'domain{number}.npz'), **arrays)
        for count in counts:
            names = tuple(f'npz:{folder}/domain{number}.npz' for number in range(count))
            run = build(MASKS, {'data.sources': names, 'train.steps_per_call': 2})
            timers[count] = timer(run, seconds)[0]
    return timers


def dispatched(work: Work, seconds: float):
    """A function that trains as a plain JAX loop does, batches from the host and one compiled call a step, and gives
    milliseconds a step. As in the engine's loop, the metrics of all steps come to the host after every `LOGGED` steps.
    """
    run = build(work)
    images, labels = steps.training_split(run)
    rng, count = np.random.default_rng(0), run.config.train.batch_size
    step, held = compiled(run.method.step, run.mesh, donate_argnums=0), [run.init()]

    def visit(number: int) -> float:
        started, metrics = time.monotonic(), []
        for i in range(number):
            rows = rng.integers(len(images), size=count)
            batch = {'image': images[rows].astype(np.float32) / 255, 'label': labels[rows].astype(np.int32)}
            held[0], own = step(held[0], batch | {'index': rows.astype(np.int32)})
            metrics.append(own)
            if (i + 1) % LOGGED == 0 or i + 1 == number:
                jax.device_get(metrics)
                metrics = []
        jax.block_until_ready(held[0])
        return (time.monotonic() - started) / number

    visit(1)
    number = max(1, round(seconds / visit(3)))
    return lambda: 1000 * visit(number)


def on_devices(seconds: float) -> float:
    """Milliseconds a step of `SMALL` on all devices of this process; called in processes of their own."""
    return timer(build(SMALL, {'train.batch_size': 64}), seconds)[0]()


def _on(count: int, seconds: float) -> float:
    before = dict(os.environ)
    os.environ.update(JAX_PLATFORMS='cpu', JAX_NUM_CPU_DEVICES=str(count))
    try:
        with Peer('jax', 'experiments.benchmarks.growth') as peer:
            return peer.call('on_devices', seconds)
    finally:
        os.environ.clear()
        os.environ.update(before)


def results(
    seconds: float,
    repetitions: int,
    batches=BATCHES,
    attack_steps=ATTACK_STEPS,
    calls=CALLS,
    devices=DEVICES,
    domains=DOMAINS,
) -> dict:
    """Milliseconds of every repetition, by what grows and how large it is."""
    machine, attack = measure.machine(), WORKS['pgd10']
    families = {
        'batch': _timers(WORKS['lenet'], 'train.batch_size', batches, seconds),
        'attack_steps': _timers(attack, 'method.attack_steps', attack_steps, seconds),
        'domains': _with_domains(domains, seconds),
    }
    for name, work in LOOPS.items():
        families[name] = _timers(work, 'train.steps_per_call', calls, seconds) | {'dispatched': dispatched(work, seconds)}
    families['devices'] = {count: (lambda count=count: _on(count, seconds)) for count in devices}
    found = {}
    for name, visits in families.items():
        values = measure.interleaved(list(visits.values()), repetitions, f'growth, {name}')
        found[name] = {str(value): own for value, own in zip(visits, values, strict=True)}
    return {'machine': machine, 'milliseconds': found}


def run(arguments) -> dict:
    if arguments.seconds <= 0 or arguments.repetitions < 1:
        raise RunError(f'--seconds is {arguments.seconds}, --repetitions {arguments.repetitions}; allowed: > 0, >= 1')
    return results(arguments.seconds, arguments.repetitions)


TITLES = {
    'batch': ('LeNet, batch', 'ms a step'),
    'attack_steps': ('PGD adversarial training of WRN-10-2, batch 64: steps of the attack', 'ms a step'),
    'domains': ('DMG of a small network, pooled batch 64: source domains', 'ms a step'),
    'loop_32': ('small_cnn, 32 px, batch 32: steps of a compiled call', 'ms a step'),
    'loop_8': ('small_cnn, 8 px, batch 32: steps of a compiled call', 'ms a step'),
    'devices': ('small_cnn, batch 64: simulated devices', 'ms a step'),
}


def text(results: dict) -> str:
    """Markdown: a table of each."""
    parts, found = [measure.machine_line(results['machine'])], results['milliseconds']
    parts.append(f'Median (least - most) of {len(next(iter(found["batch"].values())))} repetitions.\n')
    for name, columns in TITLES.items():
        names = {'dispatched': 'one at a time from Python, batches from the host'}
        own = found[name]
        rows = [[names.get(value, value), measure.shown(values, 2)] for value, values in own.items()]
        parts.append(measure.table(list(columns), rows))
        if 'dispatched' in own:
            largest = max((value for value in own if value != 'dispatched'), key=int)
            ratios = [other / mine for other, mine in zip(own['dispatched'], own[largest], strict=True)]
            parts.append(f'From Python / {largest} steps in a call: {measure.shown(ratios, 2)}.\n')
    return '\n'.join(parts)
