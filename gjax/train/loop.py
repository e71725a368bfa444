"""Training and evaluating one run, top to bottom."""

import contextlib
import signal
import time
import warnings
from pathlib import Path

import jax
import numpy as np

from gjax.signals import Hold
from gjax.train import config as configs
from gjax.train import processes, progress
from gjax.train.chain import Chain
from gjax.train.errors import Interrupted, NonFiniteError, RunError, RunWarning
from gjax.train.look import Look
from gjax.train.progress import Speed
from gjax.train.run import Run
from gjax.train.store.checkpoint import Checkpointer
from gjax.train.store.files import read_json, whole_file, write_json, writing
from gjax.train.store.records import NoLog, RunLog, provenance, read_metrics, read_results
from gjax.train.store.workdir import MACHINE_KEYS, check_same_config, check_same_data, open_workdir, record_data


class _StopSignals(Hold):
    """A hold of the signals to stop, of which all processes of a run know."""

    def __init__(self):
        super().__init__()
        self.received = None  # the signal that all processes know of

    def agree(self):
        """Whether a signal came to any process; all must ask at the same point."""
        number = processes.agree(self.number)
        self.received = signal.Signals(number) if number else None
        return self.received is not None


def _interrupted(signals: _StopSignals, where: str) -> Interrupted:
    return Interrupted(f'{where}: saved; the same command resumes', 128 + signals.received.value, signals.told)


def _check_finite(metrics: dict, first_step: int, checkpoints: Checkpointer) -> None:
    for offset in range(len(next(iter(metrics.values())))):
        for name, values in metrics.items():
            if not np.isfinite(values[offset]).all():
                what, _, player = name.partition('/')
                steps = checkpoints.steps()
                good = f'last good checkpoint: step {steps[-1]}' if steps else 'no checkpoint yet'
                owner = f' of player {player}' if player else ''
                raise NonFiniteError(f'{what}{owner} is {values[offset]} at step {first_step + offset}; {good}')


def train_and_evaluate(config, workdir: str | Path, *, mesh=None, profile=(), accept_changed_data: bool = False) -> dict:
    """Trains and evaluates the run of `config` in `workdir`, or goes on where an interrupted call stopped.

    A method of several stages has one run for each, in workdir/STAGE, unless config.stage names one of them: then `workdir`
    is that stage's, and those of its parents lie beside it.

    Args:
      config: a locked ConfigDict, from `gjax.train.config.load`.
      workdir: the run directory; config.json, run.json, metrics.jsonl, tensorboard/, examples.npz, results.json and
        checkpoints/ go there.
      mesh: devices to use; default all.
      profile: (first, last) training step of which JAX's profiler writes a trace to profile/; default none.
      accept_changed_data: go on with a warning where the data is not that with which the run, or a parent stage, began.

    Returns:
      The content of results.json; of several stages the metrics of all as 'STAGE/METRIC'.

    Raises:
      RunError, gjax.data.DataError, ValueError: bad config, data or workdir, disk full; each with one line.
      NonFiniteError: a metric became infinite or NaN.
      Interrupted: SIGINT, SIGTERM or SIGHUP came; the state is saved.
    """
    workdir = Path(workdir)
    try:
        str(workdir.resolve()).encode()
    except UnicodeEncodeError:
        raise RunError(f'--workdir is {str(workdir)!r}; allowed: a path in UTF-8, for checkpoints take no other') from None
    if not (workdir / 'config.json').exists():  # runs of before 2026-12 may have other seeds, and go on
        configs.check_seed(config.seed)
    if not config.stage:
        check_same_config(config, workdir)
        if (workdir / 'results.json').exists():
            return read_results(workdir)
    with contextlib.ExitStack() as stack:
        signals = _StopSignals()
        if processes.several():  # one that ends while it starts would leave the others waiting
            stack.enter_context(signals)
        chain = Chain(config, mesh)
        if config.stage or not chain.stages:
            return _one_stage(chain, config.stage, workdir, signals, profile, accept=accept_changed_data)
        if profile:
            raise RunError(f'--profile is for one run; allowed with --config.stage={", ".join(chain.stages)}')
        with open_workdir(config, workdir):
            for name in chain.stages:
                _one_stage(chain, name, workdir / name, signals, accept=accept_changed_data)
            results = _content(config, chain.main.num_steps, *chain.summary(workdir))
            if processes.is_main():
                write_json(workdir / 'results.json', results)
            processes.barrier('results of all stages')
        return results


def _one_stage(chain: Chain, name: str, workdir: Path, signals, profile=(), *, accept: bool = False) -> dict:
    """One run of a chain, or all there is; what is finished is not done again."""
    config = chain.stage_config(name, workdir)
    check_same_config(config, workdir)
    if (workdir / 'results.json').exists():
        return read_results(workdir)
    run = chain.run(config)
    trace = _Trace(workdir / 'profile', profile, run.num_steps)
    for line in chain.told(run) if processes.is_main() else ():
        progress.tell(line)
    run.prepare_evaluators()  # they may open sets of their own, whose data is checked too
    for folder in (workdir, *chain.parents(name, workdir).values()):
        own = tuple(run.datasets) if folder == workdir else ()
        check_same_data(run.fingerprints(), folder, names=own, accept=accept)
    if chain.trains(name):
        run.prepare()
    with contextlib.ExitStack() as stack:
        stack.enter_context(open_workdir(config, workdir))
        checkpoints = stack.enter_context(Checkpointer(workdir / 'checkpoints'))
        if not processes.several():
            stack.enter_context(signals)
        return _train_and_evaluate(run, chain, config, workdir, checkpoints, signals, trace)


class _Trace:
    """JAX's profiler, switched on before step `first` and off after step `last`."""

    def __init__(self, folder: Path, steps, num_steps: int):
        if steps and not 1 <= steps[0] <= steps[1] <= num_steps:
            raise RunError(f'the profiled steps are {steps[0]} to {steps[1]}; allowed: from 1 to {num_steps}, in order')
        self._folder, self.cuts = folder, ((steps[0] - 1, steps[1]) if steps else ())
        self._on = self._traced = False

    def warn(self, step: int) -> None:
        """Warns if the run has ended, at `step`, before any step to be profiled."""
        if self.cuts and not self._traced:
            warnings.warn(f'the run ended at step {step}: there was nothing left to profile', RunWarning, stacklevel=3)

    def at(self, step: int) -> None:
        """Starts or stops the profiler if `step` is one of its bounds."""
        if self.cuts and not self._on and self.cuts[0] <= step < self.cuts[1]:
            with self._writing():
                jax.profiler.start_trace(str(self._folder))
            self._on = True
        elif self._on and step >= self.cuts[1]:
            self.close()

    def close(self) -> None:
        self._traced = self._traced or self._on
        if self._on:
            self._on = False
            with self._writing():
                jax.profiler.stop_trace()

    @contextlib.contextmanager
    def _writing(self):
        try:
            with writing(self._folder):
                yield
        except jax.errors.JaxRuntimeError as error:
            raise RunError(f'{self._folder} cannot be written: {" ".join(str(error).split())[:200]}') from error


def _train_and_evaluate(run: Run, chain: Chain, config, workdir: Path, checkpoints: Checkpointer, signals, trace) -> dict:
    main, started = processes.is_main(), time.monotonic()
    run.check = lambda: None  # stages may share a run
    restored = checkpoints.restore_latest(run.template)
    record_data(
        run.fingerprints(), tuple(run.datasets), workdir
    )  # now, for the state may not fit other data, accepted or not
    if restored is not None:
        state, step = restored
    else:
        state = chain.begin(config.stage, run, workdir) if config.stage else run.init()
        step = int(state.step)
    trains = chain.trains(config.stage)
    parents = chain.parents(config.stage, workdir)
    record = provenance(', '.join(map(str, parents.values()))) | {'resumed_at': step if restored else 0}
    earlier = _earlier(workdir) if restored else {}
    trained = evaluated = 0.0  # seconds of training and of evaluation so far
    speed = Speed(config.train.batch_size, run.feed)

    def write_record():
        if main:
            spent = {'seconds': time.monotonic() - started, 'train_seconds': trained}
            spent = {name: round(earlier.get(name, 0.0) + value, 1) for name, value in spent.items()}
            write_json(workdir / 'run.json', record | earlier | speed.measured() | spent)

    log = RunLog(workdir, step) if main else NoLog()
    name = (config.method.name, *([config.stage] if config.stage else []), f'seed {config.seed}')
    bar = progress.progress(run.num_steps, step, ' '.join(name), shown=main)
    calls = run.advance(state, step, trace.cuts, rest=lambda: signals.received is not None) if trains else iter(())
    look = None  # at the last state
    with contextlib.ExitStack() as stack:
        for opened in (log, bar, *([calls] if trains else []), trace):  # closed from the last to the first
            stack.enter_context(contextlib.closing(opened))
        trace.at(step)
        for state, stop, metrics in speed.timed(calls, step):
            resting, trained = state is not None, time.monotonic() - started - evaluated
            last = resting and (stop == run.num_steps or run.done(state))
            _check_finite(metrics, step, checkpoints)
            bar.update(stop - step)
            step = stop
            trace.at(step)
            means = {name: values.mean() for name, values in metrics.items()}
            timings = speed.measured()
            progress.show(bar, means, timings)
            shared = {'epoch': step / run.info.steps_per_epoch, 'progress': step / run.num_steps}
            log.write(step, timings, **shared, **means)
            if run.eval_every and (step % run.eval_every == 0 or last):
                begun = time.monotonic()
                look = run.look(state, 'log')
                found = run.findings(look)
                log.write(step, **shared, **{_logged(name): value for name, value in found.metrics.items()})
                for file, own in found.arrays.items():
                    _keep_arrays(workdir / file / f'{step:08d}.npz', own)
                evaluated += time.monotonic() - begun
            stopped = signals.agree() and resting
            if last or (run.checkpoint_every and step % run.checkpoint_every == 0) or stopped:
                write_record()
                log.sync()
                checkpoints.save(step, state)
            if stopped and not last:
                checkpoints.wait()
                raise _interrupted(signals, f'{signals.received.name} at step {step} of {run.num_steps}')
    trace.warn(step)
    if not trains:
        checkpoints.save(step, state)
    checkpoints.wait()

    def check():
        if signals.agree():
            raise _interrupted(signals, f'{signals.received.name} after the last step')

    run.check = check
    saved = 'after the last step: saved; the same command resumes'
    signals.tells(f'{saved}; waiting for the batch under way; a second signal does not wait')
    if look is None or look.state is not state:
        look = run.look(state, 'log')
    results = _concluded(run, config, step, look, workdir, keep=True)
    for file, arrays in run.method.files(jax.device_get(state)).items() if main else ():
        _keep_arrays(workdir / file, arrays)
    write_record()
    if main:
        write_json(workdir / 'results.json', results)
    processes.barrier('results')  # the next stage, in every process, reads them
    return results


def _logged(metric: str) -> str:
    """The key of a metric in metrics.jsonl."""
    return f'validation/{metric.removeprefix("validation_")}' if metric.startswith('validation_') else f'test/{metric}'


def _concluded(run: Run, config, step: int, look: Look, workdir: Path, *, keep: bool) -> dict:
    """The content of results.json from what the evaluators find at the end; keep: their arrays are stored too."""
    look.when = 'end'
    look.log = read_metrics(workdir / 'metrics.jsonl') if processes.is_main() else []
    found = run.findings(look)
    for file, own in found.arrays.items() if keep else ():
        _keep_arrays(workdir / f'{file}.npz', own)
    for text in found.warnings if processes.is_main() else ():
        warnings.warn(f'{config.method.name} is hard to judge: {text}', stacklevel=2)
    return _content(config, step, found.metrics, run.protocol, found.protocols, found.warnings)


def _keep_arrays(path: Path, arrays: dict) -> None:
    """Process 0 writes an .npz, its folder too; nothing where there is nothing to write."""
    if not processes.is_main() or not arrays:
        return
    with writing(path):
        path.parent.mkdir(exist_ok=True)
    with whole_file(path) as stream:
        np.savez(stream, **arrays)


def _earlier(workdir: Path) -> dict[str, float]:
    """What run.json says of the time and the speed before this call, as far as it can be believed."""
    try:
        record = read_json(workdir / 'run.json')
    except RunError:
        return {}
    names = ('seconds', 'train_seconds', 'examples_per_second', 'data_wait_share')
    numbers = {key: record.get(key) for key in names}
    return {k: v for k, v in numbers.items() if isinstance(v, int | float) and 0 <= v < float('inf')}


def _content(config, step: int, metrics: dict, protocol: str, protocols: dict, doubts=()) -> dict:
    """The content of results.json; protocols: of single metrics, what makes them comparable with those of other runs;
    doubts: the evaluators' warnings, if there are any.
    """
    return {
        'experiment': config.experiment,
        'method': config.method.name,
        'seed': config.seed,
        'step': step,
        'selection': 'last step',
        'protocol': protocol,
        'protocols': protocols,
        **({'warnings': list(doubts)} if doubts else {}),
        'metrics': metrics,
    }


def evaluate_run(
    workdir: str | Path, overrides: dict | None = None, *, accept_changed_data: bool = False, registers: str = ''
) -> dict:
    """The final evaluation of a run's newest checkpoint, optionally under another protocol.

    Args:
      workdir: a run directory.
      overrides: dotted keys below `evaluation`, e.g. {'evaluation.steps': '100'}.
      accept_changed_data: measure with a warning where the data is not that with which the run began.
      registers: the config file, if any, that registers the run's method; it is code, and is run.

    Returns:
      As results.json.

    Raises:
      RunError, gjax.data.DataError: no run, no checkpoint that can be read, other data; each with one line.
    """
    workdir = Path(workdir)
    file = workdir / 'config.json'
    if not file.is_file():
        raise RunError(f'--workdir is {str(workdir)!r}, which holds no run (no config.json)')
    if registers:
        configs.load(registers)
    config = configs.read(file)
    for key in overrides or {}:
        if not key.startswith(('evaluation.', 'train.eval_batch_size', *MACHINE_KEYS)):
            allowed = ', '.join(('evaluation.*', 'train.eval_batch_size', *MACHINE_KEYS))
            raise RunError(f'config.{key} cannot change in eval; allowed: {allowed}')
    configs.override(config, overrides or {})
    run = Run(config)
    if not config.stage and run.method.stages():
        names = ', '.join(stage.name for stage in run.method.stages())
        raise RunError(f'{workdir} holds a run for each stage; --workdir must be one of them: {names}')
    run.prepare_evaluators()
    check_same_data(run.fingerprints(), workdir, names=tuple(run.datasets), accept=accept_changed_data)
    folder, restored = workdir / 'checkpoints', None
    if folder.is_dir():
        with Checkpointer(folder, read_only=True) as checkpoints:
            restored = checkpoints.restore_latest(run.template)
    if restored is None:
        raise RunError(f'{workdir} holds no checkpoint yet; gjax train makes one')
    state, step = restored
    return _concluded(run, config, step, run.look(state, 'end'), workdir, keep=False)
