"""One run's parts, built from its config. Everything numeric happens in two compiled functions."""

import itertools
import math
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from gjax import data, methods
from gjax.metrics import MaskedMean
from gjax.train import config as configs
from gjax.train import feeds
from gjax.train.checkpoint import from_arrays, to_arrays
from gjax.train.devices import check_divisible, compiled, data_mesh, device_memory, replicated, sharded
from gjax.train.errors import RunError
from gjax.train.weights import read_weights

MAX_WORKERS = 128


def make_train_call(method, mesh, begin, *, max_steps: int, augmentation: dict):
    """The compiled function (state, source, rng, count) -> (state, metrics of each step [max_steps]).

    It runs `count` steps (a number known only at run time, so one compilation serves every length) of reading a batch,
    augmentation and `method.step` in one loop on the device. The batch is sharded over the mesh, the rest is replicated;
    the state is donated. `begin` is a feed's: (source, first step, max_steps) -> the function that reads batches.
    """

    def call(state, source, rng, count):
        read = begin(source, state.step, max_steps)

        def step(i, state):
            batch = read(i, state.step)
            step_rng = jax.random.fold_in(rng, state.step)
            if 'image' in batch:
                batch['image'] = data.augment(batch['image'], rng=step_rng, **augmentation)
            else:
                for number, domain in enumerate(batch.values()):
                    own_rng = jax.random.fold_in(step_rng, number)
                    domain['image'] = data.augment(domain['image'], rng=own_rng, **augmentation)
            return method.step(state, jax.lax.with_sharding_constraint(batch, sharded(mesh)))

        shapes = jax.eval_shape(step, 0, state)[1]
        buffers = jax.tree.map(lambda s: jnp.zeros((max_steps, *s.shape), s.dtype), shapes)

        def body(i, carry):
            state, buffers = carry
            state, metrics = step(i, state)
            return state, jax.tree.map(lambda b, m: b.at[i].set(m), buffers, metrics)

        return jax.lax.fori_loop(0, count, body, (state, buffers))

    return compiled(call, mesh, donate_argnums=0)


def make_evaluate(function, mesh, batch_of):
    """The compiled function (state, source, rng) -> per-example results, for a method's evaluate functions."""

    def call(state, source, rng):
        batch = jax.lax.with_sharding_constraint(batch_of(source), sharded(mesh))
        return function(state, batch, rng=rng)

    return compiled(call, mesh)


def _stops(step: int, cadences, cuts, total: int):
    """The steps after `step` at which a compiled call ends: every multiple of a cadence that is not 0, and the cuts."""
    while step < total:
        step = min([total, *((step // c + 1) * c for c in cadences if c), *(cut for cut in cuts if cut > step)])
        yield step


def _fetched(stop: int, count: int, metrics: dict):
    """(stop, every metric as an array [count]) of a call, once it has ended."""
    return stop, {name: values[:count] for name, values in jax.device_get(metrics).items()}


def _check_ranges(config, mesh) -> None:
    check_divisible('train.batch_size', config.train.batch_size, mesh)
    check_divisible('train.eval_batch_size', config.train.eval_batch_size, mesh)
    if config.data.padding_mode not in ('reflect', 'edge', 'constant'):
        raise RunError(f'data.padding_mode is {config.data.padding_mode!r}; allowed: reflect, edge, constant')
    for section, key, low in (('train', 'steps_per_call', 1), ('data', 'padding', 0), ('data', 'image_size', 0)):
        if config[section][key] < low:
            raise RunError(f'{section}.{key} is {config[section][key]}; allowed: >= {low}')
    if config.data.channels not in (0, 1, 3):
        raise RunError(f'data.channels is {config.data.channels}; allowed: 0, 1, 3')
    if not -(2**63) <= config.seed < 2**63:
        raise RunError(f'seed is {config.seed}; allowed: integers of 64 bits')
    if not 0 <= config.data.workers <= MAX_WORKERS:
        raise RunError(f'data.workers is {config.data.workers}; allowed: 0..{MAX_WORKERS}')


class Run:
    """One run's parts, built from its config: data, method, compiled functions, cadences."""

    def __init__(self, config, mesh=None):
        self.config, train = config, config.train
        self._compiled = {}
        self.check = lambda: None  # called before every evaluated batch; may raise to stop
        self.mesh = data_mesh() if mesh is None else mesh
        _check_ranges(config, self.mesh)
        self.domains = self._check_domains()
        datasets = {'source': data.from_config(config.data, config.seed)}
        if config.data.target:
            datasets['target'] = data.target_from_config(config.data, datasets['source'], config.seed)
        dataset, count = datasets['source'], min(len(own.train) for own in datasets.values())
        steps_per_epoch = count // train.batch_size
        if not steps_per_epoch:
            least = min(datasets, key=lambda domain: len(datasets[domain].train))
            whose = f' of the {least}' if len(datasets) > 1 else ''
            raise RunError(f'train.batch_size is {train.batch_size}; allowed: at most {count}, the training examples{whose}')
        duration = partial(configs.duration, train, steps_per_epoch=steps_per_epoch, batch_size=train.batch_size)
        self.num_steps = duration('total')
        self.eval_every, self.checkpoint_every = duration('eval_every'), duration('checkpoint_every')
        if not self.num_steps:
            raise RunError('train.total_epochs, total_examples and total_steps are 0; allowed: one of them positive')
        shape = tuple(dataset.image_shape)
        self.info = methods.DataInfo(
            dataset.num_classes, len(dataset.train), steps_per_epoch, self.num_steps, shape, dataset.class_names
        )
        self.method = methods.build(config, self.info)
        names = {name if self.domains else '': own for name, own in datasets.items()}
        self.examples = {
            f'{name}/{split}'.lstrip('/'): len(getattr(own, split))
            for name, own in names.items()
            for split in ('train', 'test')
        }
        self.init_rng, data_rng, self.eval_rng = jax.random.split(jax.random.key(config.seed), 3)
        rows = np.linspace(0, count - 1, min(getattr(self.method, 'init_examples', 2), count)).astype(int)
        first = dataset.train.read(rows)
        self._example = data.to_batch(first.images, first.labels, rows)
        self._check_state()
        order_rng, self.augment_rng = jax.random.split(data_rng)
        self.steps_per_call = min(train.steps_per_call, steps_per_epoch)
        if config.data.streaming:
            batch_bytes = train.batch_size * int(np.prod(dataset.image_shape))
            self.steps_per_call = max(1, min(self.steps_per_call, feeds.CHUNK_BYTES // batch_bytes))
        else:
            feeds.check_memory(datasets.values(), self.mesh)
        if self.domains:
            each = {
                name: self._feed(own, jax.random.fold_in(order_rng, i)) for i, (name, own) in enumerate(datasets.items())
            }
            self.feed = feeds.Domains(each, () if self.method.target_labels else ('target',))
        else:
            self.feed = self._feed(dataset, order_rng)
        augmentation = {'padding': config.data.padding, 'padding_mode': config.data.padding_mode, 'mirror': config.data.flip}
        self.train_call = make_train_call(
            self.method, self.mesh, self.feed.begin, max_steps=self.steps_per_call, augmentation=augmentation
        )

    def _check_domains(self) -> tuple[str, ...]:
        """The names of the domains of a method that knows several; RunError if data.target does not fit the method."""
        name, target = self.config.method.name, self.config.data.target
        domains = methods.domains(name)
        if bool(domains) != bool(target):
            allowed = f'the set to which {name} adapts' if domains else f"'' ({name} knows one domain)"
            raise RunError(f'data.target is {target!r}; allowed: {allowed}')
        return domains

    def _feed(self, dataset, rng):
        """The feed of one set."""
        size = self.config.train.batch_size
        if not self.config.data.streaming:
            return feeds.Resident(dataset, self.mesh, rng, size)
        return feeds.Streamed(dataset, self.mesh, rng, size, self.num_steps, self.steps_per_call, self.config.data.workers)

    def _check_state(self) -> None:
        """RunError if the state alone would not fit into the smallest device."""
        leaves = jax.tree.leaves(jax.eval_shape(self.method.init, self.init_rng, self._example))
        needed = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in leaves)
        limit = device_memory(self.mesh)
        if needed > limit:
            raise RunError(
                f'config.net makes {needed / 2**30:.1f} GiB of parameters and optimiser state; allowed: '
                f'{limit / 2**30:.1f} GiB, the memory of a device'
            )

    def init(self):
        """The state at step 0, on every device."""
        state = self.once('init', lambda: compiled(self.method.init, self.mesh))(self.init_rng, self._example)
        if not (path := self.config.net.get('weights', '')):
            return state
        try:
            return from_arrays(to_arrays(self.method.pretrained(state, read_weights(Path(path)))), state)
        except ValueError as error:
            raise RunError(f'net.weights is {path!r}: {error}') from error

    def template(self):
        """A state as of `init`, soon: for its structure, its key and its integers; the floats differ in their last bits.

        Compiling what draws the parameters takes seconds on a CPU, most of them to make it fast.
        """
        if 'init' in self._compiled or self.mesh.devices.flat[0].platform != 'cpu':
            return self.init()
        options = {'xla_backend_optimization_level': 0}
        init = self.once('template', lambda: compiled(self.method.init, self.mesh, options=options))
        return init(self.init_rng, self._example)

    def once(self, name: str, make):
        """What make() gives, made once: a function compiles once for all states that it is called with."""
        if name not in self._compiled:
            self._compiled[name] = make()
        return self._compiled[name]

    def advance(self, state, step: int, cuts=(), rest=lambda: False):
        """Trains from `step`, the state's own, to the end; close it to stop before.

        Yields (state, step, metrics) after every compiled call: at the latest `steps_per_call` steps after the one before,
        at every evaluation, checkpoint and step in `cuts`, and at every epoch of a method that may end early, which ends
        this too. metrics: every one as an array over the steps since. At all of these but the first kind the devices rest.
        Else they are at the next call already, which took the state, and None is in its place; rest: asked after every
        call, whether to rest at its end.
        """
        if self.done(state):
            return
        pauses = (self.eval_every, self.checkpoint_every, self.info.steps_per_epoch * self.may_stop)
        rests = set(_stops(step, pauses, cuts, self.num_steps))
        stops = list(_stops(step, (self.steps_per_call, *pauses), cuts, self.num_steps))
        counts = [stop - start for start, stop in itertools.pairwise([step, *stops])]
        running = None  # the call before, whose metrics nobody has seen

        def busy():
            return running is not None and not all(values.is_ready() for values in running[2].values())

        with self.feed.chunks(step, counts, busy) as sources:
            for stop, count in zip(stops, counts, strict=True):
                try:
                    source = next(sources)
                except data.DataError:
                    if running:  # what is computed is told all the same
                        yield None, *_fetched(*running)
                    raise
                state, metrics = self.train(state, source, count)
                if running:
                    yield None, *_fetched(*running)
                running = stop, count, metrics
                if stop in rests or rest():
                    yield state, *_fetched(*running)
                    running = None
                    if self.done(state):
                        return

    def train(self, state, source, count: int):
        """Sets off `count` <= steps_per_call steps, which take the state: the new one, and every metric [steps_per_call]."""
        return self.train_call(state, source, self.augment_rng, jnp.int32(count))

    def prepare(self) -> None:
        """Compiles the training loop while a set in memory is read, and waits for that; DataError if it cannot be read.

        The loop's first call then finds it compiled.
        """
        if (source := self.feed.source_shapes()) is not None:
            self.once('train call', lambda: self._compile_ahead(source))
        self.feed.load()

    def _compile_ahead(self, source) -> None:
        everywhere = replicated(self.mesh)
        state = jax.eval_shape(self.method.init, self.init_rng, self._example)
        state = jax.tree.map(lambda leaf: leaf.update(sharding=everywhere), state)
        self.train_call.lower(state, source, self.augment_rng, jnp.int32(0)).compile()

    @property
    def may_stop(self) -> bool:
        """Whether the method may end before the last step."""
        return hasattr(self.method, 'done')

    def done(self, state) -> bool:
        """Whether the method ends here, before the last step."""
        return self.may_stop and bool(self.once('done', lambda: jax.jit(self.method.done))(state))

    def step_flops(self) -> float:
        """Floating-point operations of one training step, as the compiler counts them in the program that a TPU would get,
        the same number on every machine (CPUs may take fewer, `gjax.nets.winograd`); 0.0 where it does not say. Of a
        condition the dearest branch counts (a generator's update that comes every fifth step does so every step), of a
        loop one round."""
        size, shape = self.config.train.batch_size, self.info.image_shape
        batch = {'image': jax.ShapeDtypeStruct((size, *shape), jnp.float32)}
        batch |= {name: jax.ShapeDtypeStruct((size,), jnp.int32) for name in ('label', 'index')}
        state = jax.eval_shape(self.method.init, self.init_rng, self._example)
        if self.domains:
            batch = dict.fromkeys(self.domains, batch)
        traced = jax.jit(self.method.step).trace(state, batch)
        analysis = traced.lower(lowering_platforms=('tpu',)).cost_analysis() or {}
        return float(analysis.get('flops', 0.0))

    def evaluate(self, state, *, final: bool = False) -> dict:
        """Means over the test split (of several domains as DOMAIN_METRIC): cheap ones, or the final protocol."""
        name = 'final_evaluate' if final else 'evaluate'
        function = self.once(name, lambda: make_evaluate(getattr(self.method, name), self.mesh, self.feed.batch))
        if not self.domains:
            return self._means(function, state, 'test')
        means = {domain: self._means(function, state, f'{domain}/test') for domain in self.domains}
        return {f'{domain}_{name}': value for domain, own in means.items() for name, value in own.items()}

    def _means(self, function, state, split: str) -> dict:
        mean = MaskedMean()
        for results, mask in self._per_example(function, state, split):
            mean.add(results, mask)
        return mean.result()

    def _per_example(self, function, state, split: str):
        """Yields (results, mask) over a whole split in index order; the last batch is padded to the common size."""
        with self.feed.examples(split, self.config.train.eval_batch_size) as sources:
            for number, (source, mask) in enumerate(sources):
                self.check()
                results = function(state, source, jax.random.fold_in(self.eval_rng, number))
                yield jax.device_get(results), mask

    def summarize(self, state) -> dict:
        """The method's numbers about its memory, on the host."""
        return jax.device_get(self.once('summarize', lambda: jax.jit(self.method.summarize))(state))

    def describe(self, state) -> dict[str, np.ndarray]:
        """The method's per-example values of the training split, [N] each, in index order; of domains as DOMAIN_VALUE."""

        def call(state, batch, rng):
            return self.method.describe_example(state, batch)

        function = self.once('describe', lambda: make_evaluate(call, self.mesh, self.feed.batch))
        if not self.domains:
            return self.collect(function, state, 'train')
        found = {domain: self.collect(function, state, f'{domain}/train') for domain in self.domains}
        return {f'{domain}_{name}': values for domain, own in found.items() for name, values in own.items()}

    def collect(self, function, state, split: str, every: int = 1) -> dict[str, np.ndarray]:
        """The results [N, ...] of a function of `make_evaluate` over a whole split, in index order; of every so-manieth
        example."""
        rows, start = [], 0
        for results, mask in self._per_example(function, state, split):
            chosen = mask & ((start + np.arange(len(mask))) % every == 0)
            rows.append({name: values[chosen] for name, values in results.items()})
            start += len(mask)
        return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}

    def final_metrics(self, state, examples) -> dict[str, float]:
        """The numbers of results.json: final test means as the method concludes from them, summaries of the memory, and of
        generative methods, whose steps have no loops, what a step costs."""
        metrics = self.evaluate(state, final=True)
        if hasattr(self.method, 'conclude'):
            metrics = self.method.conclude(metrics)
        summary = {k: float(v) for k, v in self.summarize(state).items() if np.ndim(v) == 0}
        if hasattr(self.method, 'abilities'):
            summary['step_flops'] = self.once('step flops', self.step_flops)
        return metrics | summary | self.method.summarize_examples(examples)
