"""The command line: gjax list | train | eval | sweep | report | reproduce | prepare. Thin: each is one call below it."""

# Nothing that takes long is imported here: until `entry` begins, Ctrl-C is Python's, which answers it with a traceback.
import os
import sys

from gjax import signals, streams

DESCRIPTION = 'gjax: ten papers on generative models, robustness and domain adaptation, on one JAX engine.'
EPILOG = """first steps:
  gjax reproduce iaat --seeds=0                 run a paper's mini study and print its tables
  gjax list                                     what there is: methods, configs, data sets, networks
  gjax train --config=experiments/iaat/digits.py:iaat --workdir=runs/iaat --config.method.beta=0.2
  gjax eval --workdir=runs/iaat --config.evaluation.steps=100
  gjax sweep --config=experiments/iaat/digits.py --over seed=0,1 --over method.beta=0.1,0.5 --workdir=runs/beta
The same command again resumes an interrupted run. A config file is code: run only those you trust."""


def _overrides(words: list[str], parser, prefix: str = '--config.') -> tuple[dict[str, str], list[str]]:
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
    import argparse

    path = os.path.expanduser(text)
    if path.startswith('~'):
        raise argparse.ArgumentTypeError(f'{text!r} is in a home folder that is not known; allowed: other paths')
    return path


def _pair(text: str) -> str:
    """KEY=VALUE, one of the several values of an option, to which argparse gives unknown options that hold a space too."""
    import argparse

    if text.startswith('-'):
        raise argparse.ArgumentTypeError(f'{text!r} is no KEY=VALUE; see gjax --help')
    return text


def _parser():
    """The parser of everything but `--config.KEY=VALUE`, an argparse.ArgumentParser."""
    import argparse

    parser = argparse.ArgumentParser(
        'gjax', description=DESCRIPTION, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--version', action='store_true', help='print the version and exit')
    commands = parser.add_subparsers(dest='command', metavar='COMMAND')
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
    study.add_argument('--scale', default='mini', help="mini (minutes on a laptop) or paper (the paper's own setting)")
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
    prepare = commands.add_parser('prepare', help='prepare a data set that TFDS lacks, without TensorFlow')
    prepare.add_argument('name', metavar='NAME', help='usps, mnist_m, syn_digits, office31[/DOMAIN] or pacs[/DOMAIN]')
    prepare.add_argument(
        '--data_dir', type=_path, metavar='DIR', help='the TFDS directory (default TFDS_DATA_DIR or ~/tensorflow_datasets)'
    )
    prepare.add_argument(
        '--manual_dir', type=_path, metavar='DIR', help='where published files are, or go (default DATA_DIR/downloads/NAME)'
    )
    prepare.add_argument(
        '--mirror', metavar='URL', default='', help='where they lie by name (default GJAX_MIRROR, or their site)'
    )
    return parser


def _list(arguments, overrides) -> None:
    from gjax import data, methods, nets
    from gjax.train.config import experiments_dir

    root = experiments_dir()
    files = sorted(p for p in root.glob('*/*.py') if 'def get_config' in p.read_text(encoding='utf-8'))
    sections = {
        'methods': methods.METHODS,
        'studies (gjax reproduce NAME)': sorted(p.parent.name for p in root.glob('*/study.py')),
        'configs (gjax train --config=FILE)': [p.relative_to(root.parent).as_posix() for p in files],
        'data sets (config.data.name)': [*data.EMBEDDED, 'npz:PATH', 'folder:PATH', 'any TFDS name'],
        'data sets (gjax prepare NAME)': data.sources.OWN,
        'networks (config.net.name)': nets.NETS,
    }
    for title, names in sections.items():
        print(f'{title}:\n  ' + '\n  '.join(names))


def _jobs(asked: int) -> int:
    """How many runs at a time: what was asked for, or what the machine suggests."""
    import jax

    from gjax.train.errors import RunError

    if asked < 0:
        raise RunError(f'--jobs is {asked}; allowed: 0 (choose) or more')
    return asked or (2 if jax.default_backend() == 'cpu' and (os.cpu_count() or 1) >= 2 else 1)


def _steps(text: str | None) -> tuple[int, int] | tuple[()]:
    """(first, last) from 'FIRST:LAST'."""
    from gjax.train.errors import RunError

    if text is None:
        return ()
    first, colon, last = text.partition(':')
    if not (colon and first.isdecimal() and last.isdecimal() and 1 <= int(first) <= int(last)):
        raise RunError(f'--profile is {text!r}; allowed: FIRST:LAST, steps with 1 <= FIRST <= LAST')
    return int(first), int(last)


def _join(arguments) -> None:
    """Joins this process to the others of its run, if there are any.

    Call it before anything that may fail: the others notice the end of a process that has joined them.
    """
    from gjax.train import processes

    names = ('coordinator_address', 'num_processes', 'process_id', 'coordinator_bind_address')
    processes.start(**{name: getattr(arguments, name) for name in names})


def _train(arguments, overrides) -> None:
    import json

    from gjax.train import config, loop, processes

    _join(arguments)
    loaded, profile = config.load(arguments.config, overrides), _steps(arguments.profile)
    done = os.path.exists(os.path.join(arguments.workdir, 'results.json'))
    results = loop.train_and_evaluate(
        loaded, arguments.workdir, profile=profile, accept_changed_data=arguments.accept_changed_data
    )
    if processes.is_main():
        print(json.dumps(results, indent=2))
    if done:
        print(f'{arguments.workdir} is complete: nothing to do', file=sys.stderr)


def _eval(arguments, overrides) -> None:
    import json
    from pathlib import Path

    from gjax.train import loop, processes
    from gjax.train.store.files import write_json

    _join(arguments)
    results = loop.evaluate_run(
        arguments.workdir, overrides, accept_changed_data=arguments.accept_changed_data, registers=arguments.config
    )
    if processes.is_main():
        print(json.dumps(results, indent=2))
        if arguments.out:
            write_json(Path(arguments.out), results)


def _report(arguments, overrides) -> None:
    from gjax.study.report import report

    metrics = tuple(name.strip() for name in (arguments.metrics or '').split(',') if name.strip())
    print(report(arguments.runs, arguments.out, metrics))


def _prepare(arguments, overrides) -> None:
    from gjax.data import builders

    options = {'manual_dir': arguments.manual_dir, 'mirror': arguments.mirror}
    print(builders.prepare(arguments.name, arguments.data_dir, **options))


def _sweep(arguments, overrides) -> None:
    from pathlib import Path

    from gjax.study import sweep
    from gjax.train import processes
    from gjax.train.errors import RunError

    if processes.launched() and not arguments.print:
        raise RunError('gjax sweep starts its runs itself; under a launcher of several processes use its --print')
    workdir = Path(arguments.workdir)
    jobs = sweep.plan(arguments.config, overrides, sweep.parse_over(arguments.over), workdir)
    if arguments.print:
        print(sweep.commands(jobs, sys.stdout.encoding or 'utf-8'), end='')
        return
    done = all(job.finished for job in jobs)
    print(sweep.sweep(jobs, workdir, _jobs(arguments.jobs)))
    if done:
        print(f'all {len(jobs)} runs are complete: nothing to do', file=sys.stderr)


def _seeds(text: str | None) -> list[int] | None:
    """Seeds from '0,1,2'; None, the study's own, where none are asked for."""
    from gjax.train.config import check_seed
    from gjax.train.errors import RunError

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


def _reproduce(arguments, overrides) -> None:
    from gjax.study.reproduce import reproduce
    from gjax.train import processes
    from gjax.train.errors import RunError

    if processes.launched():
        raise RunError('gjax reproduce starts its runs itself; under a launcher of several processes use gjax train')
    seeds = _seeds(arguments.seeds)
    pairs = [word.removeprefix('config.').partition('=') for word in arguments.set]
    if any(not equals for _, equals, _ in pairs):
        raise RunError(f'--set is {" ".join(arguments.set)!r}; allowed: config.KEY=VALUE')
    summary = reproduce(
        arguments.name,
        scale=arguments.scale,
        seeds=seeds,
        workdir=arguments.workdir,
        overrides={key: value for key, _, value in pairs} | overrides,
        extras=arguments.extras,
        jobs=_jobs(arguments.jobs),
        update_readme=arguments.update_readme,
    )
    print(summary['table'])
    for path in sorted(summary['figures'].values()):
        print(f'figure: {path}')
    if summary['complete']:
        print(f'reproduce {arguments.name} is complete: nothing to do', file=sys.stderr)


COMMANDS = {
    'list': _list,
    'train': _train,
    'eval': _eval,
    'sweep': _sweep,
    'report': _report,
    'reproduce': _reproduce,
    'prepare': _prepare,
}


def _run(arguments, overrides) -> None:
    from gjax.train.store.cache import keep_compiled

    keep_compiled()
    COMMANDS[arguments.command](arguments, overrides)


def _failed(code: int = 1) -> int:
    """The exit code; among several processes at once, not by way of JAX's shutdown, which would wait for the others."""
    from gjax.train import processes

    if processes.several():
        os._exit(code)
    return code


def _crashed() -> int:
    """Prints the traceback of an unexpected exception; returns the exit code."""
    import traceback

    traceback.print_exc()
    sys.stderr.flush()
    return _failed()


def main(argv: list[str] | None = None) -> int:
    """Runs one command; returns the exit code: 0, 1 (failed, one line says why), 2 (usage), 128 + a signal (stopped)."""
    parser = _parser()
    overrides, words = _overrides(sys.argv[1:] if argv is None else argv, parser)
    arguments = parser.parse_args(words)
    if arguments.version:
        import gjax

        print(gjax.__version__)
        return 0
    if not arguments.command:
        parser.print_help()
        return 0
    if overrides and arguments.command in ('list', 'report'):
        parser.error(f'gjax {arguments.command} takes no --config.* keys')
    import jax

    from gjax.data.dataset import DataError
    from gjax.data.entries import shown
    from gjax.train.errors import Interrupted, RunError

    try:
        _run(arguments, overrides)
    except KeyboardInterrupt:
        print('gjax: stopped', file=sys.stderr, flush=True)
        return _failed(130)
    except Interrupted as stop:
        if not stop.told:
            print(f'gjax: {stop}', file=sys.stderr)
        return stop.exit_code
    except (RunError, DataError, ValueError, TypeError, OverflowError, OSError, jax.errors.JaxRuntimeError) as error:
        from gjax.train import processes

        own = isinstance(error, RunError | DataError)
        full = isinstance(error, jax.errors.JaxRuntimeError) and 'out of memory' in str(error).lower()
        lost = not own and not full and processes.several() and processes.is_connection_error(error)
        if os.environ.get('GJAX_TRACEBACK') or (isinstance(error, jax.errors.JaxRuntimeError) and not lost and not full):
            return _crashed()
        reason = ' '.join(str(error).split())
        if isinstance(error, UnicodeEncodeError):  # Python's own words leave out what cannot be encoded
            reason = f'{error.object!r} holds {error.object[error.start]!r}; allowed: characters of {error.encoding}'
        if full:
            reason = f'a device is out of memory; take a smaller batch or network, or smaller images ({reason[:160]})'
        elif lost:
            reason = f'another process of this run failed or is gone; the same command resumes ({reason[:200]})'
        # Names from files and arguments may hold anything; a terminal obeys control characters.
        print(f'gjax: error: {shown(reason)}', file=sys.stderr, flush=True)
        return _failed()
    except Exception:
        return _crashed()
    return 0


def entry() -> None:
    """The console script: before anything else the streams and signals of its process are made safe."""
    streams.prepare()
    signals.watch()
    try:
        code = main()
    except SystemExit as stop:  # argparse: help, usage
        code = stop.code
    sys.exit(streams.finish(code))


if __name__ == '__main__':
    entry()
