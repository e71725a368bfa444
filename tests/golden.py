"""A fingerprint of what the engine computes, to compare two trees bit for bit before an engine's change is committed.

  git worktree add /tmp/before HEAD^
  (cd /tmp/before && python -m tests.golden /tmp/before.json)
  python -m tests.golden /tmp/after.json --against=/tmp/before.json

Every case of the contract battery and both pipelines (a pruning chain with its controls and a transfer, an early-bird
search) train for a few steps on one CPU device and one core, and are evaluated again by `gjax eval`. Of each run directory
the numbers of results.json and metrics.jsonl, the digest of every stored array and the digest of the newest checkpoint are
kept.
Both trees must be measured on one machine: other processors round differently.
"""

import argparse
import hashlib
import json
import os
import sys
import tempfile
from pathlib import Path

os.environ['JAX_NUM_CPU_DEVICES'] = '1'
if hasattr(os, 'sched_setaffinity'):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

import numpy as np

import tests.conftest  # noqa: F401  XLA's flags and the compilation cache of the tests
from gjax.train.loop import evaluate_run, train_and_evaluate
from tests.contract.cases import CASES, tiny_config

CHAINS = {
    'chain': (
        'lottery_tickets',
        {
            'method__controls': ('random', 'reinit', 'no_rewind', 'one_shot', 'snip', 'grasp'),
            'method__transfer_to': 'gan',
            'method__transfer_settings': ('optimizer.learning_rate=0.02',),
        },
    ),
    'early': (
        'early_bird',
        {
            'method__history': 1,
            'method__distance': 1.0,
            'method__channels': 0.5,
            'method__controls': ('random', 'reinit', 'snip', 'grasp'),
        },
    ),
}
TIMES = ('seconds', 'train_seconds', 'examples_per_second', 'data_wait_share')


def toy(folder: Path) -> str:
    """Writes three toy domains like those of the contract battery and returns the name of the first."""
    rng = np.random.default_rng(0)
    for name, counts, light in (('toy', (80, 40), 0), ('toy_target', (96, 30), 40), ('toy_unseen', (24, 20), 20)):
        arrays = {}
        for split, count in zip(('train', 'test'), counts, strict=True):
            labels = np.arange(count, dtype=np.int32) % 2
            images = light + rng.integers(0, 120, (count, 8, 8, 1))
            images += np.where((np.arange(8)[None, None, :, None] >= 4) == (labels == 1)[:, None, None, None], 80, 0)
            arrays |= {f'{split}_images': images.astype(np.uint8), f'{split}_labels': labels}
        np.savez(folder / f'{name}.npz', **arrays)
    return f'npz:{folder}/toy.npz'


def digest_of_checkpoint(folder: Path) -> str:
    """The digest that the newest checkpoint of a run carries of its own leaves."""
    newest = max((path for path in folder.iterdir() if path.name.isdigit()), key=lambda path: int(path.name))
    return json.loads((newest / 'meta' / 'metadata').read_text(encoding='utf-8'))['sha256']


def fingerprint(folder: Path) -> dict:
    """What a run directory holds, without times and places."""
    found = {'results': json.loads((folder / 'results.json').read_text(encoding='utf-8'))}
    for file in sorted(folder.rglob('*.npz')):
        with np.load(file) as arrays:
            found[file.relative_to(folder).as_posix()] = {
                name: f'{arrays[name].dtype}{arrays[name].shape} '
                + hashlib.sha256(np.ascontiguousarray(arrays[name]).tobytes()).hexdigest()[:16]
                for name in arrays.files
            }
    for file in sorted(folder.rglob('metrics.jsonl')):
        where = file.parent.relative_to(folder).as_posix()
        found[f'{where}/log'] = [json.loads(line) for line in file.read_text(encoding='utf-8').splitlines()]
        found[f'{where}/checkpoint'] = digest_of_checkpoint(file.parent / 'checkpoints')
    return found


def measure(names) -> dict:
    """{case: fingerprint} of freshly trained runs."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        data = toy(root)
        for name in names or (*sorted(CASES), *CHAINS):
            case, options = CHAINS.get(name, (name, {}))
            if name in CHAINS:
                options = {'stage': '', **options}
                if 'phase' in CASES[case]:
                    options['method__phase'] = ''
            config = tiny_config(case, data, **options)
            train_and_evaluate(config, root / name)
            found[name] = fingerprint(root / name)
            if config.stage or name not in CHAINS:
                found[name]['eval'] = evaluate_run(root / name)
            print(name, file=sys.stderr, flush=True)
    return json.loads(json.dumps(found).replace(folder, ''))


def differences(new, old, where: str = '') -> list[str]:
    """One line for every value that differs or is on one side only."""
    if isinstance(new, dict) and isinstance(old, dict):
        keys = sorted(new.keys() | old.keys())
        missing = object()
        return [line for key in keys for line in differences(new.get(key, missing), old.get(key, missing), f'{where}/{key}')]
    if isinstance(new, list) and isinstance(old, list) and len(new) == len(old):
        return [line for i, pair in enumerate(zip(new, old, strict=True)) for line in differences(*pair, f'{where}[{i}]')]
    show = [value if isinstance(value, str | int | float | list) else '(absent)' for value in (new, old)]
    return [] if new == old else [f'{where}: {show[0]!s:.60} was {show[1]!s:.60}']


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('out', help='the JSON file to write')
    parser.add_argument(
        '--against', help='a JSON file of another tree: differences are listed, exit code 1 if there are any'
    )
    parser.add_argument('--cases', default='', help='comma-separated; default all')
    arguments = parser.parse_args()
    names = [name for name in arguments.cases.split(',') if name]
    found = measure(names)
    Path(arguments.out).write_text(json.dumps(found, indent=1, sort_keys=True), encoding='utf-8')
    if not arguments.against:
        return 0
    old = json.loads(Path(arguments.against).read_text(encoding='utf-8'))
    lines = differences(found, {name: value for name, value in old.items() if not names or name in names})
    print('\n'.join(lines) or f'{len(found)} cases are equal bit for bit')
    return int(bool(lines))


if __name__ == '__main__':
    sys.exit(main())
