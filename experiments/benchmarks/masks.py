"""What pruning masks cost: a training step under masks beside the same step without any.

Both are the engine's compiled loop on the mini experiments of lottery_tickets. The masked one has the whole state that the
chain carries, the weights to rewind to included; nothing is pruned yet: zeros cost what other numbers do.
"""

from experiments.benchmarks import measure
from experiments.benchmarks.works import timer
from gjax.train import config as configs
from gjax.train.errors import RunError
from gjax.train.run import Run

WORKS = ('ae', 'vae', 'gan')
CALL = 40  # steps of a compiled call


def add_options(parser) -> None:
    parser.add_argument('--seconds', type=float, default=2.0, help='of one measurement, about')
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


def results(works, seconds: float, repetitions: int, overrides: dict | None = None) -> dict:
    """{'machine', 'steps': rows of work, masked and dense milliseconds}."""
    machine, rows = measure.machine(), []
    for work in works:
        runs = pair(work, overrides)
        timers = [timer(run, seconds)[0] for run in runs.values()]
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
    if arguments.seconds <= 0 or arguments.repetitions < 1:
        raise RunError(f'--seconds is {arguments.seconds}, --repetitions {arguments.repetitions}; allowed: > 0, >= 1')
    return results(WORKS, arguments.seconds, arguments.repetitions)


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
