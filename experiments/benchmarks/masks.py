"""What pruning masks cost: a training step under masks beside the same step without any.

Both are the engine's compiled loop on the mini experiments of lottery_tickets. The masked one has the whole state that the
chain carries, the weights to rewind to included; nothing is pruned yet: zeros cost what other numbers do.
"""

import time

import jax

from experiments.benchmarks import measure
from gjax.train import config as configs
from gjax.train.errors import RunError
from gjax.train.run import Run

WORKS = ('ae', 'vae', 'gan')
CALL = 40  # steps of a compiled call


def add_options(parser) -> None:
    parser.add_argument('--steps', type=int, default=40, help='training steps of one measurement')
    parser.add_argument('--repetitions', type=int, default=15, help='measurements of each, in turns')


def pair(work: str, overrides: dict | None = None) -> dict[str, Run]:
    """The runs with and without masks."""
    chain = configs.load(f'lottery_tickets/digits.py:{work}', {'train.steps_per_call': CALL, **(overrides or {})})
    plain = configs.from_json(configs.to_json(chain))
    method = {'name': 'gan' if work == 'gan' else 'autoencoder', 'ema': chain.method.ema}
    if work != 'gan':
        method |= {'variational': work == 'vae', 'reconstruction': chain.method.reconstruction, 'beta': chain.method.beta}
    with plain.unlocked():
        plain.method = method
        configs.complete(plain)
    return {'masked': Run(chain), 'dense': Run(plain)}


def timer(run: Run, steps: int):
    """A function that trains `steps` steps and gives milliseconds a step; the first call compiles."""
    with run.feed.chunks(0, [steps]) as sources:
        source = next(iter(sources))
    held = [run.init()]

    def visit() -> float:
        started = time.monotonic()
        held[0], metrics = run.train_call(held[0], source, run.augment_rng, jax.numpy.int32(steps))
        jax.block_until_ready((held[0], metrics))
        return 1000 * (time.monotonic() - started) / steps

    visit()
    return visit


def results(works, steps: int, repetitions: int, overrides: dict | None = None) -> dict:
    """{'machine', 'steps': rows of work, masked and dense milliseconds}."""
    machine, rows = measure.machine(), []
    for work in works:
        runs = pair(work, overrides)
        timers = [timer(run, steps) for run in runs.values()]
        # Each repetition visits them in both orders: what runs second finds other caches.
        visits = [*timers, *timers[::-1]]
        values = measure.interleaved(visits, repetitions, work)
        first, second, second_again, first_again = values
        rows.append(
            {
                'work': work,
                'batch': runs['dense'].config.train.batch_size,
                'masked': [*first, *first_again],
                'dense': [*second, *second_again],
            }
        )
    return {'machine': machine, 'steps': rows}


def run(arguments) -> dict:
    if not 1 <= arguments.steps <= CALL or arguments.repetitions < 1:
        raise RunError(
            f'--steps is {arguments.steps}, --repetitions {arguments.repetitions}; allowed: 1..{CALL}, and at least 1'
        )
    return results(WORKS, arguments.steps, arguments.repetitions)


def text(results: dict) -> str:
    """Markdown."""
    rows = []
    for row in results['steps']:
        ratios = [masked / dense for masked, dense in zip(row['masked'], row['dense'], strict=True)]
        times = [measure.shown(row[name], 2) for name in ('dense', 'masked')]
        rows.append([f'{row["work"]}, batch {row["batch"]}', *times, measure.shown(ratios, 3)])
    columns = ['step', 'dense (ms)', 'masked (ms)', 'masked / dense']
    count = len(results['steps'][0]['dense'])
    return f'{measure.machine_line(results["machine"])}\nMedian (least - most) of {count} repetitions.\n\n' + measure.table(
        columns, rows
    )
