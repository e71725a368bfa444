"""The command line: gjax list | train | eval | sweep | report | reproduce | prepare. Thin: each is one call below it."""

# Nothing that takes long is imported here: until `entry` begins, Ctrl-C is Python's, which answers it with a traceback.
import os
import sys

from gjax import notices, signals, streams


def _list(arguments, overrides) -> None:
    from gjax import data, methods, nets
    from gjax.train.config import experiments_dir, shipped_files

    root = experiments_dir()
    sections = {
        'methods': methods.METHODS,
        'studies (gjax reproduce NAME)': sorted(p.parent.name for p in root.glob('*/study.py')),
        'configs (gjax train --config=FILE)': [p.relative_to(root.parent).as_posix() for p in shipped_files()],
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


def _join(arguments) -> None:
    """Joins this process to the others of its run, if there are any.

    Call it before anything that may fail: the others notice the end of a process that has joined them.
    """
    from gjax.train import processes

    names = ('coordinator_address', 'num_processes', 'process_id', 'coordinator_bind_address')
    processes.start(**{name: getattr(arguments, name) for name in names})


def _train(arguments, overrides) -> None:
    import json

    from gjax.arguments import steps_of
    from gjax.train import config, loop, processes

    _join(arguments)
    loaded, profile = config.load(arguments.config, overrides), steps_of(arguments.profile)
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


def _reproduce(arguments, overrides) -> None:
    from gjax.arguments import seeds_of
    from gjax.study.reproduce import reproduce
    from gjax.train import processes
    from gjax.train.errors import RunError

    if processes.launched():
        raise RunError('gjax reproduce starts its runs itself; under a launcher of several processes use gjax train')
    seeds = seeds_of(arguments.seeds)
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
    from gjax.arguments import make_parser, take_overrides

    parser = make_parser()
    overrides, words = take_overrides(sys.argv[1:] if argv is None else argv, parser)
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
    with notices.one_line_each():
        return _answered(arguments, overrides)


def _answered(arguments, overrides) -> int:
    """The exit code of a command, after one line for what a user can cause."""
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
