"""Training and evaluating one run, top to bottom. Everything numeric happens in two compiled functions."""

import contextlib
import json
import signal
import threading
import time
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from gjax import data, methods
from gjax.metrics import MaskedMean
from gjax.train import config as configs
from gjax.train import logging, processes
from gjax.train.checkpoint import Checkpointer
from gjax.train.devices import check_divisible, data_mesh, replicated, sharded
from gjax.train.errors import Interrupted, NonFiniteError, RunError
from gjax.train.workdir import check_same_config, open_workdir


def make_train_call(method, mesh, *, batch_size: int, max_steps: int, augmentation: dict):
    """The compiled function (state, data, rng, count) -> (state, metrics of each step [max_steps]).

    It runs `count` steps (a number known only at run time, so one compilation serves every length) of gather,
    augmentation and `method.step` in one loop on the device. The batch is sharded over the mesh, the rest is replicated;
    the state is donated. max_steps is at most one epoch.
    """
    along_data = sharded(mesh)

    def call(state, split, rng, count):
        num_examples = split.labels.shape[0]
        steps_per_epoch = num_examples // batch_size
        order_rng, augment_rng = jax.random.split(rng)
        first_epoch = state.step // steps_per_epoch
        orders = jnp.stack([data.epoch_order(order_rng, first_epoch + i, num_examples) for i in range(2)])

        def step(state):
            epoch, position = state.step // steps_per_epoch, state.step % steps_per_epoch
            order = orders[epoch - first_epoch]
            index = jax.lax.dynamic_slice_in_dim(order, position * batch_size, batch_size)
            batch = data.gather(split, jax.lax.with_sharding_constraint(index, along_data))
            step_rng = jax.random.fold_in(augment_rng, state.step)
            batch['image'] = data.augment(batch['image'], rng=step_rng, **augmentation)
            return method.step(state, jax.lax.with_sharding_constraint(batch, along_data))

        shapes = jax.eval_shape(step, state)[1]
        buffers = jax.tree.map(lambda s: jnp.zeros((max_steps, *s.shape), s.dtype), shapes)

        def body(i, carry):
            state, buffers = carry
            state, metrics = step(state)
            return state, jax.tree.map(lambda b, m: b.at[i].set(m), buffers, metrics)

        return jax.lax.fori_loop(0, count, body, (state, buffers))

    return jax.jit(call, donate_argnums=0, out_shardings=replicated(mesh))


def make_evaluate(function, mesh):
    """The compiled function (state, data, index, rng) -> per-example results, for a method's evaluate functions."""

    def call(state, split, index, rng):
        batch = data.gather(split, jax.lax.with_sharding_constraint(index, sharded(mesh)))
        return function(state, jax.lax.with_sharding_constraint(batch, sharded(mesh)), rng=rng)

    return jax.jit(call, out_shardings=replicated(mesh))


def per_example(evaluate, state, split, rng, batch_size: int, check=lambda: None):
    """Yields (results, mask) over a whole split in index order; the last batch is padded to the common size.

    `check` is called before every batch: it may raise to stop.
    """
    total = split.labels.shape[0]
    for number, start in enumerate(range(0, total, batch_size)):
        check()
        index = np.arange(start, start + batch_size)
        results = evaluate(state, split, np.minimum(index, total - 1), jax.random.fold_in(rng, number))
        yield jax.device_get(results), index < total


class _StopSignals(contextlib.AbstractContextManager):
    """Remembers SIGTERM and SIGINT instead of dying, in the main thread."""

    def __init__(self):
        self.received = None  # the signal that all processes know of
        self._own = 0
        self._old = {}

    def agree(self):
        """Whether a signal came to any process; all must ask at the same point."""
        number = processes.agree(self._own)
        self.received = signal.Signals(number) if number else None
        return self.received is not None

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._old[number] = signal.signal(number, self._remember)
        return self

    def _remember(self, number, frame):
        self._own = number

    def __exit__(self, *_):
        for number, old in self._old.items():
            signal.signal(number, old)


def _interrupted(signals: _StopSignals, where: str) -> Interrupted:
    return Interrupted(f'{where}: saved; the same command resumes', 128 + signals.received.value)


def _check_finite(metrics: dict, first_step: int, checkpoints: Checkpointer) -> None:
    for offset in range(len(next(iter(metrics.values())))):
        for name, values in metrics.items():
            if not np.isfinite(values[offset]).all():
                what, _, player = name.partition('/')
                steps = checkpoints.steps()
                good = f'last good checkpoint: step {steps[-1]}' if steps else 'no checkpoint yet'
                owner = f' of player {player}' if player else ''
                raise NonFiniteError(f'{what}{owner} is {values[offset]} at step {first_step + offset}; {good}')


def _next_stop(step: int, cadences, total: int) -> int:
    return min([total] + [(step // c + 1) * c for c in cadences if c])


def _check_memory(name: str, dataset, mesh) -> None:
    """RunError if the set, which lies whole on every device, would fill more than half of the smallest one."""
    needed = dataset.train.images.nbytes + dataset.test.images.nbytes
    limits = [(device.memory_stats() or {}).get('bytes_limit') for device in mesh.local_devices]
    limit = min((limit for limit in limits if limit), default=None)
    if limit and needed > limit / 2:
        raise RunError(
            f'data.name is {name!r}, which takes {needed / 2**30:.1f} GiB on every device; allowed: half of a device, '
            f'{limit / 2**31:.1f} GiB; take fewer or smaller images (data.image_size)'
        )


class Run:
    """One run's parts, built from its config: data on the devices, method, compiled functions, cadences."""

    def __init__(self, config, mesh=None):
        self.config, train = config, config.train
        self.check = lambda: None  # called before every evaluated batch; may raise to stop
        self.mesh = data_mesh() if mesh is None else mesh
        check_divisible('train.batch_size', train.batch_size, self.mesh)
        check_divisible('train.eval_batch_size', train.eval_batch_size, self.mesh)
        if config.data.padding_mode not in ('reflect', 'edge', 'constant'):
            raise RunError(f'data.padding_mode is {config.data.padding_mode!r}; allowed: reflect, edge, constant')
        if train.steps_per_call < 1 or config.data.padding < 0:
            raise RunError(
                f'train.steps_per_call is {train.steps_per_call}, data.padding {config.data.padding}; allowed: >= 1, >= 0'
            )
        if config.data.image_size < 0:
            raise RunError(f'data.image_size is {config.data.image_size}; allowed: >= 0')
        dataset = data.load(config.data.name, config.data.dir or None, config.data.image_size)
        steps_per_epoch = len(dataset.train) // train.batch_size
        if not steps_per_epoch:
            raise RunError(
                f'train.batch_size is {train.batch_size}; allowed: at most {len(dataset.train)}, the training examples'
            )
        duration = partial(configs.duration, train, steps_per_epoch=steps_per_epoch, batch_size=train.batch_size)
        self.num_steps = duration('total')
        self.eval_every, self.checkpoint_every = duration('eval_every'), duration('checkpoint_every')
        if not self.num_steps:
            raise RunError('train.total_epochs, total_examples and total_steps are 0; allowed: one of them positive')
        self.info = methods.DataInfo(dataset.num_classes, len(dataset.train), steps_per_epoch, self.num_steps)
        self.method = methods.build(config, self.info)
        self.steps_per_call = min(train.steps_per_call, steps_per_epoch)
        self.train_call = make_train_call(
            self.method,
            self.mesh,
            batch_size=train.batch_size,
            max_steps=self.steps_per_call,
            augmentation={
                'padding': config.data.padding,
                'padding_mode': config.data.padding_mode,
                'mirror': config.data.flip,
            },
        )
        everywhere = replicated(self.mesh)
        _check_memory(config.data.name, dataset, self.mesh)
        self.train_data, self.test_data = (
            jax.device_put(data.DeviceData(split.images, split.labels), everywhere)
            for split in (dataset.train, dataset.test)
        )
        self.init_rng, self.data_rng, self.eval_rng = jax.random.split(jax.random.key(config.seed), 3)

    def init(self):
        """The state at step 0, on every device."""
        batch = data.gather(self.train_data, jnp.arange(2))
        state = jax.jit(self.method.init, out_shardings=replicated(self.mesh))(self.init_rng, batch)
        return state

    def train(self, state, count: int):
        """`count` <= steps_per_call steps: the new state, and every metric as an array [count]."""
        state, metrics = self.train_call(state, self.train_data, self.data_rng, jnp.int32(count))
        return state, {name: values[:count] for name, values in jax.device_get(metrics).items()}

    def evaluate(self, state, *, final: bool = False) -> dict:
        """Means over the test split: cheap ones, or the final protocol."""
        name = 'final_evaluate' if final else 'evaluate'
        if not hasattr(self, f'_{name}'):
            setattr(self, f'_{name}', make_evaluate(getattr(self.method, name), self.mesh))
        mean = MaskedMean()
        for results, mask in self._per_example(getattr(self, f'_{name}'), state, self.test_data):
            mean.add(results, mask)
        return mean.result()

    def _per_example(self, function, state, split):
        return per_example(function, state, split, self.eval_rng, self.config.train.eval_batch_size, self.check)

    def summarize(self, state) -> dict:
        """The method's numbers about its memory, on the host."""
        return jax.device_get(jax.jit(self.method.summarize)(state))

    def describe(self, state) -> dict[str, np.ndarray]:
        """The method's per-example values of the training split, [N] each, in index order."""
        call = make_evaluate(lambda state, batch, rng: self.method.describe_example(state, batch), self.mesh)
        parts = self._per_example(call, state, self.train_data)
        rows = [{name: values[mask] for name, values in results.items()} for results, mask in parts]
        return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}

    def final_metrics(self, state, examples) -> dict[str, float]:
        """The numbers of results.json: final test means, the curve one radius a name, and summaries of the memory."""
        metrics = self.evaluate(state, final=True)
        for eps, value in zip(self.config.evaluation.curve, metrics.pop('accuracy_curve', ()), strict=True):
            metrics[f'accuracy_at_{eps:.4f}'] = value
        summary = {k: float(v) for k, v in self.summarize(state).items() if np.ndim(v) == 0}
        return metrics | summary | self.method.summarize_examples(examples)


def train_and_evaluate(config, workdir: str | Path, *, mesh=None, parent: str = '') -> dict:
    """Trains and evaluates the run of `config` in `workdir`, or goes on where an interrupted call stopped.

    Args:
      config: a locked ConfigDict, from `gjax.train.config.load`.
      workdir: the run directory; config.json, run.json, metrics.jsonl, examples.npz, results.json and checkpoints/ go there.
      mesh: devices to use; default all.
      parent: the run directory that this run starts from, kept in run.json.

    Returns:
      The content of results.json.

    Raises:
      RunError, gjax.data.DataError, ValueError: bad config, data or workdir; each with one line.
      NonFiniteError: a metric became infinite or NaN.
      Interrupted: SIGTERM or SIGINT came; the state is saved.
    """
    workdir = Path(workdir)
    check_same_config(config, workdir)
    if (workdir / 'results.json').exists():
        return json.loads((workdir / 'results.json').read_text())
    run = Run(config, mesh)
    with contextlib.ExitStack() as stack:
        stack.enter_context(open_workdir(config, workdir))
        checkpoints = stack.enter_context(contextlib.closing(Checkpointer(workdir / 'checkpoints')))
        return _train_and_evaluate(run, workdir, checkpoints, stack.enter_context(_StopSignals()), parent)


def _train_and_evaluate(run: Run, workdir: Path, checkpoints: Checkpointer, signals, parent: str) -> dict:
    config, main = run.config, processes.is_main()
    state = run.init()
    restored = checkpoints.restore_latest(state)
    step = 0
    if restored is not None:
        state, step = restored
    record = logging.provenance(parent) | {'resumed_at': step}
    earlier = json.loads((workdir / 'run.json').read_text()) if (workdir / 'run.json').exists() else {}
    spent, started = earlier.get('seconds', 0.0) if step else 0.0, time.monotonic()

    def write_record():
        if main:
            logging.write_json(workdir / 'run.json', record | {'seconds': round(spent + time.monotonic() - started, 1)})

    log = logging.MetricsLog(workdir / 'metrics.jsonl', step) if main else logging.NoLog()
    bar = logging.progress(run.num_steps, step, f'{config.method.name} seed {config.seed}', shown=main)
    with contextlib.closing(log), contextlib.closing(bar):
        while step < run.num_steps:
            stop = _next_stop(step, (run.steps_per_call, run.eval_every, run.checkpoint_every), run.num_steps)
            state, metrics = run.train(state, stop - step)
            _check_finite(metrics, step, checkpoints)
            bar.update(stop - step)
            step = stop
            means = {name: values.mean() for name, values in metrics.items()}
            bar.set_postfix({k.split('/')[0]: f'{v:.3f}' for k, v in means.items() if k.startswith('loss')}, refresh=False)
            shared = {'epoch': step / run.info.steps_per_epoch, 'progress': step / run.num_steps}
            log.write(step, **shared, **means)
            if run.eval_every and (step % run.eval_every == 0 or step == run.num_steps):
                values = run.evaluate(state) | run.summarize(state)
                log.write(step, **shared, **{f'test/{name}': value for name, value in values.items()})
            stopped = signals.agree()
            if step == run.num_steps or (run.checkpoint_every and step % run.checkpoint_every == 0) or stopped:
                write_record()
                checkpoints.save(step, state)
            if stopped and step < run.num_steps:
                checkpoints.wait()
                raise _interrupted(signals, f'{signals.received.name} at step {step} of {run.num_steps}')
    checkpoints.wait()

    def check():
        if signals.agree():
            raise _interrupted(signals, f'{signals.received.name} after the last step')

    run.check = check
    examples = run.describe(state)
    if main:
        np.savez(workdir / 'examples.npz', **examples)
    results = {
        'experiment': config.experiment,
        'method': config.method.name,
        'seed': config.seed,
        'step': step,
        'selection': 'last step',
        'metrics': run.final_metrics(state, examples),
    }
    write_record()
    if main:
        logging.write_json(workdir / 'results.json', results)
    return results


def evaluate_run(workdir: str | Path, overrides: dict | None = None) -> dict:
    """The final evaluation of a run's newest checkpoint, optionally under another protocol.

    Args:
      workdir: a run directory.
      overrides: dotted keys below `evaluation`, e.g. {'evaluation.steps': '100'}.

    Returns:
      As results.json.
    """
    file = Path(workdir) / 'config.json'
    if not file.is_file():
        raise RunError(f'--workdir is {str(workdir)!r}, which holds no run (no config.json)')
    config = configs.from_json(file.read_text())
    for key in overrides or {}:
        if not key.startswith(('evaluation.', 'train.eval_batch_size', 'data.dir')):
            raise RunError(f'config.{key} cannot change in eval; allowed: evaluation.*, train.eval_batch_size, data.dir')
    configs.override(config, overrides or {})
    run = Run(config)
    folder = Path(workdir) / 'checkpoints'
    restored = None
    if folder.is_dir():
        with contextlib.closing(Checkpointer(folder, read_only=True)) as checkpoints:
            restored = checkpoints.restore_latest(run.init())
    if restored is None:
        raise RunError(f'{workdir} holds no checkpoint yet; gjax train makes one')
    state, step = restored
    return {
        'experiment': config.experiment,
        'method': config.method.name,
        'seed': config.seed,
        'step': step,
        'selection': 'last step',
        'metrics': run.final_metrics(state, run.describe(state)),
    }
