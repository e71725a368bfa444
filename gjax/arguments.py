"""The words of the command line: what may be asked for, and how each word is read."""

import argparse
import os

from gjax.train.errors import RunError

DESCRIPTION = 'gjax: ten papers on generative models, robustness and domain adaptation, on one JAX engine.'
EPILOG = """first steps:
  gjax reproduce iaat --seeds=0                 run a paper's mini study and print its tables
  gjax list                                     what there is: methods, configs, data sets, networks
  gjax train --config=experiments/iaat/digits.py:iaat --workdir=runs/iaat --config.method.beta=0.2
  gjax eval --workdir=runs/iaat --config.evaluation.steps=100
  gjax sweep --config=experiments/iaat/digits.py --over seed=0,1 --over method.beta=0.1,0.5 --workdir=runs/beta
The same command again resumes an interrupted run. A config file is code: run only those you trust."""


def take_overrides(words: list[str], parser, prefix: str = '--config.') -> tuple[dict[str, str], list[str]]:
    """The words `--config.KEY=VALUE`, or `--config.KEY VALUE`, as a dict; and the other words.

    They are taken out before argparse sees them: an option of several values, --over, would swallow those that hold a space.
    """
    overrides, others, words = {}, [], list(words)
    while words:
        word = words.pop(0)
        if not word.startswith(prefix):
            others.append(word)
            continue
        key, equals, value = word.removeprefix(prefix).partition('=')
        if not equals:
            if not words or words[0].startswith('--'):
                parser.error(f'{word} needs a value: {word}=VALUE')
            value = words.pop(0)
        overrides[key] = value
    return overrides, others


def _path(text: str) -> str:
    """A path on the command line; shells leave the home folder in --workdir=~/runs to the program."""
    path = os.path.expanduser(text)
    if path.startswith('~'):
        raise argparse.ArgumentTypeError(f'{text!r} is in a home folder that is not known; allowed: other paths')
    return path


def _pair(text: str) -> str:
    """KEY=VALUE, one of the several values of an option, to which argparse gives unknown options that hold a space too."""
    if text.startswith('-'):
        raise argparse.ArgumentTypeError(f'{text!r} is no KEY=VALUE; see gjax --help')
    return text


def make_parser() -> argparse.ArgumentParser:
    """The parser of everything but `--config.KEY=VALUE`."""
    made = argparse.ArgumentParser(
        'gjax', description=DESCRIPTION, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument('--version', action='store_true', help='print the version and exit')
    commands = made.add_subparsers(dest='command', metavar='COMMAND')
    commands.add_parser('list', help='list methods, experiment configs, data sets and networks')
    several = argparse.ArgumentParser(add_help=False)
    group = several.add_argument_group(
        'several processes',
        'found by themselves on TPU pods, SLURM, Open MPI and GKE; elsewhere give all three to each process',
    )
    group.add_argument('--coordinator_address', metavar='HOST:PORT', help='where all find process 0')
    group.add_argument('--num_processes', type=int, metavar='N')
    group.add_argument('--process_id', type=int, metavar='I', help='0..N-1')
    group.add_argument(
        '--coordinator_bind_address',
        metavar='HOST:PORT',
        help='where process 0 listens, if not at the address that the others use (default there, or everywhere)',
    )
    changed = 'go on although the data is not that with which the run began'
    train = commands.add_parser('train', parents=[several], help='train and evaluate one config, or resume it')
    train.add_argument('--config', required=True, metavar='FILE[:ARG]', help='a config file; ARG picks a variant')
    train.add_argument('--workdir', type=_path, required=True, metavar='DIR', help='the run directory; made if missing')
    train.add_argument('--profile', metavar='FIRST:LAST', help='trace these steps with the profiler, into DIR/profile')
    train.add_argument('--accept_changed_data', action='store_true', help=changed)
    train.epilog = 'Any config key is overridden by --config.KEY=VALUE, e.g. --config.train.total_epochs=5.'
    evaluate = commands.add_parser('eval', parents=[several], help='evaluate the newest checkpoint of a run again')
    evaluate.add_argument('--workdir', type=_path, required=True, metavar='DIR', help='a run directory')
    evaluate.add_argument('--out', type=_path, metavar='FILE', help='also write the result to this JSON file')
    evaluate.add_argument('--config', metavar='FILE', default='', help="the config file that registers the run's own method")
    evaluate.add_argument('--accept_changed_data', action='store_true', help=changed)
    evaluate.epilog = 'Another protocol by --config.evaluation.KEY=VALUE.'
    sweep = commands.add_parser('sweep', help='train one config over a grid of values, or resume that')
    sweep.add_argument('--config', required=True, metavar='FILE[:ARG]', help='a config file; ARG picks a variant')
    sweep.add_argument('--workdir', type=_path, required=True, metavar='DIR', help='each run gets DIR/KEY=VALUE/...')
    sweep.add_argument(
        '--over',
        nargs='+',
        action='extend',
        type=_pair,
        default=[],
        metavar='KEY=A,B',
        help='values of a key; may come again',
    )
    sweep.add_argument('--jobs', type=int, default=0, help='runs at a time (default: 2 on a CPU of 2 or more cores, else 1)')
    sweep.add_argument('--print', action='store_true', help="print the missing runs' commands, one a line, and run nothing")
    sweep.epilog = (
        'All runs share --config.KEY=VALUE. A run that fails stops no other; the same command runs what is missing.'
    )
    report = commands.add_parser('report', help='compare runs: one table and figures')
    report.add_argument('runs', type=_path, nargs='+', metavar='DIR', help='run directories, or folders that hold some')
    report.add_argument('--metrics', metavar='A,B', help='which metrics to show (default: what most runs have)')
    report.add_argument(
        '--out', type=_path, required=True, metavar='DIR', help='where report.md, report.json and figures go'
    )
    study = commands.add_parser('reproduce', help="run a paper's study and judge its claims")
    study.add_argument('name', metavar='NAME', help='a paper, e.g. iaat')
    study.add_argument(
        '--scale', default='mini', help="mini (minutes on a laptop), small (hours) or paper (the paper's own setting)"
    )
    study.add_argument('--seeds', metavar='0,1,2', help="comma-separated seeds (default: the study's own, three or five)")
    study.add_argument('--workdir', type=_path, metavar='DIR', help='default runs/NAME-SCALE')
    study.add_argument(
        '--set',
        nargs='+',
        action='extend',
        type=_pair,
        default=[],
        metavar='config.KEY=VALUE',
        help='override a key of every run',
    )
    study.add_argument('--extras', action='store_true', help='also the ablations')
    study.add_argument('--jobs', type=int, default=0, help='runs at a time (default: 2 on a CPU of 2 or more cores, else 1)')
    study.add_argument('--update_readme', action='store_true', help='write the tables into the README files')
    prepare = commands.add_parser('prepare', help='prepare a published data set, without TensorFlow')
    prepare.add_argument('name', metavar='NAME', help='a set of `gjax list`, or a single domain of one: NAME/DOMAIN')
    prepare.add_argument(
        '--data_dir', type=_path, metavar='DIR', help='the TFDS directory (default TFDS_DATA_DIR or ~/tensorflow_datasets)'
    )
    prepare.add_argument(
        '--manual_dir', type=_path, metavar='DIR', help='where published files are, or go (default DATA_DIR/downloads/NAME)'
    )
    prepare.add_argument(
        '--mirror', metavar='URL', default='', help='where they lie by name (default GJAX_MIRROR, or their site)'
    )
    return made


def steps_of(text: str | None) -> tuple[int, int] | tuple[()]:
    """(first, last) from 'FIRST:LAST'; () where nothing is asked for.

    Raises:
      RunError: another text.
    """
    if text is None:
        return ()
    first, colon, last = text.partition(':')
    if not (colon and first.isdecimal() and last.isdecimal() and 1 <= int(first) <= int(last)):
        raise RunError(f'--profile is {text!r}; allowed: FIRST:LAST, steps with 1 <= FIRST <= LAST')
    return int(first), int(last)


def seeds_of(text: str | None) -> list[int] | None:
    """Seeds from '0,1,2'; None, the study's own, where none are asked for.

    Raises:
      RunError: no seeds, or one of them twice.
    """
    from gjax.train.values import check_seed  # NumPy's import would make `gjax --help` wait

    if text is None:
        return None
    try:
        seeds = [int(seed) for seed in text.split(',')]
    except ValueError:
        raise RunError(f'--seeds is {text!r}; allowed: comma-separated integers') from None
    for seed in seeds:
        check_seed(seed)
    if len(set(seeds)) < len(seeds):
        raise RunError(f'--seeds is {text!r}; allowed: each seed once')
    return seeds
