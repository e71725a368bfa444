"""What pruning costs and wins: a training step under masks, and one of a network with half the channels cut out, beside the
same step of the whole network.

All are the engine's compiled loop on the mini experiments of lottery_tickets. The masked one has the whole state that the
chain carries, the weights to rewind to included; nothing is pruned yet: zeros cost what other numbers do. The sliced one is
what an early-bird ticket trains: a network of smaller layers.
"""

from experiments.benchmarks import measure
from experiments.benchmarks.works import timer
from gjax.train import config as configs
from gjax.train.errors import RunError
from gjax.train.run import Run

WORKS = ('ae', 'vae', 'gan')
CALL = 40  # steps of a compiled call
KEPT = 0.5  # of the channels, in a sliced network


def add_options(parser) -> None:
    parser.add_argument('--seconds', type=float, default=2.0, help='of one measurement, about')
    parser.add_argument('--repetitions', type=int, default=5, help='measurements of each, in turns')


def runs_of(work: str, overrides: dict | None = None) -> dict[str, Run]:
    """The runs: 'masked', 'dense', and 'sliced'."""
    chain = configs.load(f'lottery_tickets/digits.py:{work}', {'train.steps_per_call': CALL, **(overrides or {})})
    plain = configs.from_json(configs.to_json(chain))
    method = {'name': 'gan' if work == 'gan' else 'autoencoder', 'ema': chain.method.ema}
    if work != 'gan':
        method |= {'variational': work == 'vae', 'reconstruction': chain.method.reconstruction, 'beta': chain.method.beta}
    with plain.unlocked():
        plain.method = method
        configs.complete(plain)
    dense, sliced = Run(plain), configs.from_json(configs.to_json(plain))
    with sliced.unlocked():
        for option, widths in dense.method.net.channel_sizes().items():
            sliced.net[option] = tuple(round(KEPT * width) for width in widths)
    return {'masked': Run(chain), 'dense': dense, 'sliced': Run(sliced)}


def results(works, seconds: float, repetitions: int, overrides: dict | None = None) -> dict:
    """{'machine', 'steps': rows of work, and milliseconds of its runs}."""
    machine, rows = measure.machine(), []
    for work in works:
        runs = runs_of(work, overrides)
        timers = [timer(run, seconds)[0] for run in runs.values()]
        # Each repetition visits them in both orders: what runs second finds other caches.
        visits = [*timers, *timers[::-1]]
        values = measure.interleaved(visits, repetitions, work)
        count = len(runs)
        row = {name: [*values[i], *values[2 * count - 1 - i]] for i, name in enumerate(runs)}
        rows.append({'work': work, 'batch': runs['dense'].config.train.batch_size} | row)
    return {'machine': machine, 'steps': rows}


def run(arguments) -> dict:
    if arguments.seconds <= 0 or arguments.repetitions < 1:
        raise RunError(f'--seconds is {arguments.seconds}, --repetitions {arguments.repetitions}; allowed: > 0, >= 1')
    return results(WORKS, arguments.seconds, arguments.repetitions)


def text(results: dict) -> str:
    """Markdown."""
    rows = []
    for row in results['steps']:
        times = [measure.shown(row[name], 2) for name in ('dense', 'masked', 'sliced')]
        for name in ('masked', 'sliced'):
            times.append(measure.shown([own / dense for own, dense in zip(row[name], row['dense'], strict=True)], 3))
        rows.append([f'{row["work"]}, batch {row["batch"]}', *times])
    columns = ['step', 'dense (ms)', 'masked (ms)', 'sliced (ms)', 'masked / dense', 'sliced / dense']
    count = len(results['steps'][0]['dense'])
    return f'{measure.machine_line(results["machine"])}\nMedian (least - most) of {count} repetitions.\n\n' + measure.table(
        columns, rows
    )
