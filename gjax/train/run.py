"""One run's parts, built from its config: data, method, compiled functions, cadences, evaluators."""

import itertools
import math
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gjax import data, methods
from gjax.data.fingerprint import fingerprint
from gjax.train import config as configs
from gjax.train import feeds
from gjax.train.devices import check_divisible, compiled, data_mesh, device_memory, replicated
from gjax.train.errors import RunError
from gjax.train.look import Look
from gjax.train.programs import make_train_call, step_batch
from gjax.train.store.checkpoint import from_arrays, to_arrays
from gjax.train.store.weights import read_weights

MAX_WORKERS = 128


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
    if not 0 <= config.data.validation < 1:
        raise RunError(f'data.validation is {config.data.validation}; allowed: 0 <= share < 1')
    for key in ('sources', 'unseen'):
        if not all(isinstance(name, str) and name for name in config.data[key]):
            raise RunError(f'data.{key} is {config.data[key]!r}; allowed: a tuple of names of sets')
    if not 0 <= config.data.workers <= MAX_WORKERS:
        raise RunError(f'data.workers is {config.data.workers}; allowed: 0..{MAX_WORKERS}')


def _check_roles(config, roles: dict, sets: methods.Sets, beside: dict | None = None) -> None:
    """RunError unless the roles take sets that the config names; and, with those `beside` them, all but the unseen ones."""
    name, target = config.method.name, config.data.target
    own = {one for role in roles.values() for one in role.sets}
    taken = own | {one for role in (beside or {}).values() for one in role.sets}
    if '' in taken:
        raise RunError(f"data.target is ''; allowed: the set to which {name} adapts")
    if target and sets.target not in taken:
        raise RunError(f"data.target is {target!r}; allowed: '' ({name} knows one domain)")
    if taken and (left := [one for one in sets.sources if one not in taken]):
        raise RunError(f'data.sources has {left[0]!r}, which {name} does not train on; allowed: sets that it does')
    if unknown := sorted(taken.difference({*sets.sources, sets.target})):
        raise RunError(f'{name} trains on a set {unknown[0]!r}; the config names {", ".join(sets.sources)}')


def check_stage(config, method: methods.Method) -> None:
    """RunError unless a config's stage is one of its method's."""
    names = [stage.name for stage in method.stages()]
    if config.stage and config.stage not in names:
        allowed = ', '.join(names) or f"'' ({config.method.name} has no stages)"
        raise RunError(f'stage is {config.stage!r}; allowed: {allowed}')


class Measured(NamedTuple):
    """What all evaluators of a run have found of one state."""

    metrics: dict  # {name: number or array}
    arrays: dict  # {file: {name: array}}
    protocols: dict[str, str]  # how a metric was measured, of those whose evaluator says so
    warnings: tuple[str, ...] = ()  # what makes metrics doubtful, in sentences


class Run:
    """One run's parts, built from its config."""

    def __init__(self, config, mesh=None, opened: feeds.Opened | None = None):
        """
        Args:
          config: a locked ConfigDict.
          mesh: devices to use; default all.
          opened: shares data sets with other runs on the same mesh.
        """
        self.config = config
        self._sets, self._copies = opened or feeds.Opened(), {}
        self._compiled = {}
        self._others = {}  # {'KEY NAME': fingerprint} of sets beside its own that evaluators have opened
        self.check = lambda: None  # called before every evaluated batch; may raise to stop
        self.mesh = data_mesh() if mesh is None else mesh
        _check_ranges(config, self.mesh)
        self.init_rng, data_rng, self.eval_rng = jax.random.split(jax.random.key(config.seed), 3)
        order_rng, self.augment_rng = jax.random.split(data_rng)
        self._open(order_rng)
        self.trained = tuple(dict.fromkeys(own for pool in self.pools.values() for own in pool.role.sets))
        self._example = self._first_examples(self.method.init_examples)
        self._check_state()
        self.steps_per_call = min(config.train.steps_per_call, self.info.steps_per_epoch)
        self.feed = self._make_feed()
        augmentation = {'padding': config.data.padding, 'padding_mode': config.data.padding_mode, 'mirror': config.data.flip}
        if self.info.label is not None and self.info.label.kind == 'map':
            augmentation['ignore'] = self.info.label.ignore
        self.train_call = make_train_call(
            self.method, self.mesh, self.feed, max_steps=self.steps_per_call, augmentation=augmentation
        )
        self.evaluators = self.method.evaluators()

    def _open(self, order_rng) -> None:
        """Checks the options, opens the sets and builds the method, of the whole config and of its stage."""
        config, batch_size = self.config, self.config.train.batch_size
        cls = methods.check(config)
        sets = methods.Sets(*data.set_names(config.data))
        roles = cls.roles(sets)
        _check_roles(config, roles, sets)
        self.datasets = self._opened(cls) if roles else {}
        make = partial(feeds.make_pools, batch_size=batch_size, rng=order_rng, domains=sets.sources)
        self.pools = make(roles, self.datasets)
        self._set_facts(sets)
        self.whole_method = methods.build(config, self.info)
        check_stage(config, self.whole_method)
        self.method = self.whole_method.at(config.stage) if config.stage else self.whole_method
        if (own := self.method.roles(sets)) != roles:
            _check_roles(config, own, sets, beside=roles)
            self.datasets = self.datasets or self._opened(type(self.method))
            self.pools = make(own, self.datasets)
            self._set_facts(sets)
            self.whole_method = methods.build(config, self.info)
            self.method = self.whole_method.at(config.stage)
        for role, pool in self.pools.items():
            check_divisible(f'the batch size of role {role!r}', pool.draw.batch_size, self.mesh)

    def _make_feed(self):
        """Where batches come from: sets in memory or streams. Streams may shorten the compiled calls."""
        config, pools = self.config, self.pools
        if not (config.data.streaming and self.datasets):
            feeds.check_memory(self.datasets.values(), self.mesh)
            return feeds.Resident(self.datasets, pools, self.mesh, self._copies)
        sizes = [pool.draw.batch_size * self.datasets[pool.role.sets[0]].example_bytes for pool in pools.values()]
        self.steps_per_call = max(1, min(self.steps_per_call, feeds.CHUNK_BYTES // max(sizes, default=1)))
        lengths = {'num_steps': self.num_steps, 'max_steps': self.steps_per_call}
        return feeds.Streamed(self.datasets, pools, self.mesh, **lengths, workers=config.data.workers)

    def _opened(self, cls) -> dict[str, data.Dataset]:
        """The sets of the config, whose columns are of kinds that the method takes."""
        found, self._copies = self._sets.sets(self.config.data, self.config.seed)
        for own, dataset in found.items():
            for field in dataset.fields.values():
                if field.kind not in cls.KINDS:
                    allowed = f'allowed for {self.config.method.name}: {", ".join(cls.KINDS)}'
                    raise RunError(f'{own}, {dataset.name}, has columns of kind {field.kind}; {allowed}')
        return found

    def _set_facts(self, sets: methods.Sets) -> None:
        """Durations in steps, and what the method may know of its data."""
        name, train, pools = self.config.method.name, self.config.train, self.pools
        if not pools and (key := configs.in_epochs(train)):
            raise RunError(f'train.{key} is {train[key]}; allowed: 0, for {name} sees no data; set steps or examples')
        epoch = feeds.steps_per_epoch(pools)
        self.num_steps = configs.duration(train, 'total', epoch, train.batch_size)
        if not self.num_steps:
            raise RunError('train.total_epochs, total_examples and total_steps are 0; allowed: one of them positive')
        epoch = epoch if pools else self.num_steps
        self.eval_every, self.checkpoint_every = (
            configs.duration(train, key, epoch, train.batch_size) for key in ('eval_every', 'checkpoint_every')
        )
        form = {}
        if self.datasets:
            first = self.datasets[sets.sources[0]]
            form = {
                'image_shape': tuple(first.image_shape),
                'class_names': first.class_names,
                'domains': sets.sources,
                'unseen': sets.unseen,
                'label': first.fields.get('label'),
            }
        self.info = methods.DataInfo(
            num_classes=first.num_classes if form else 0,
            num_examples=len(next(iter(pools.values())).records) if pools else 0,
            steps_per_epoch=epoch,
            num_steps=self.num_steps,
            **form,
        )

    def _first_examples(self, count: int):
        """A batch for `Method.init`: examples of the first role, evenly spaced over the smallest pool; None without data.

        It has the fields that the role asks for.
        """
        if not self.pools:
            return None
        least = min(len(pool.rows) for pool in self.pools.values())
        return self._read_first(np.linspace(0, least - 1, min(count, least)).astype(int))

    def other_set(self, name: str, key: str) -> data.Dataset:
        """See `Look.other_set`. From now on the set is among the run's fingerprints, as 'KEY NAME'."""
        shape = self.info.image_shape
        height, channels = (shape[0], shape[2]) if len(shape) == 3 else (0, 0)  # points have no other form
        other = data.find(name, self.config.data.dir or None, height, channels, key=key)
        if tuple(other.image_shape) != tuple(shape):
            raise data.DataError(f'{key} has {name!r}, images of {other.image_shape}; allowed: {shape}, as data.name has')
        self._others[f'{key} {name}'] = fingerprint(other)
        return other

    def fingerprints(self) -> dict[str, dict]:
        """{set: its `gjax.data.fingerprint.fingerprint`}, of all sets on which the run trains or measures.

        Those that are none of the run's own are known once `prepare_evaluators` has opened them.

        Raises:
          gjax.data.DataError: a file cannot be read.
        """
        own = self.once('fingerprints', lambda: {name: fingerprint(own) for name, own in self.datasets.items()})
        return own | self._others

    def drawn_examples(self):
        """A batch of training examples of the first role, drawn by the seed; None without data."""
        if not self.pools:
            return None
        total = len(next(iter(self.pools.values())).rows)
        count = min(total, self.config.train.batch_size)
        return self._read_first(np.sort(np.random.default_rng(abs(self.config.seed)).choice(total, count, replace=False)))

    def _read_first(self, places) -> dict:
        """Examples that the first role may draw, by their places among those, as a batch of that role."""
        pool = next(iter(self.pools.values()))
        rows = pool.rows[places]
        return pool.batch(data.to_batch(pool.records.read(rows).columns, rows))

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
        weights = read_weights(Path(path))
        try:
            return from_arrays(to_arrays(self.method.with_weights(state, weights)), state)
        except ValueError as error:
            raise RunError(f'net.weights is {path!r}, with {", ".join(sorted(weights)[:3])}, ...: {error}') from error

    def template(self):
        """A state like `init`'s, compiled without optimisation so that it is ready seconds sooner on a CPU.

        Only its structure, its key and its integers are exact: use it for restoring, never to start training.
        """
        if 'init' in self._compiled or self.mesh.devices.flat[0].platform != 'cpu':
            return self.init()
        options = {'xla_backend_optimization_level': 0}
        init = self.once('template', lambda: compiled(self.method.init, self.mesh, options=options))
        return init(self.init_rng, self._example)

    def once(self, name, make):
        """What make() gives, made once: a function compiles once for all states that it is called with."""
        if name not in self._compiled:
            self._compiled[name] = make()
        return self._compiled[name]

    def advance(self, state, step: int, cuts=(), rest=lambda: False):
        """Trains from `step`, the state's own, to the end; close it to stop before.

        Yields (state, step, metrics) after every compiled call. `state` is None while the next call, which took it, already
        runs; it is given at evaluations, checkpoints, cuts and the end, and at every epoch of a method that may stop early,
        where the devices rest. metrics: every one as an array over the steps since the last yield.

        Args:
          state: at `step`.
          step: where it goes on.
          cuts: more steps at which to rest.
          rest: asked after every call, whether to rest at its end.
        """
        if self.done(state):
            return
        pauses = (self.eval_every, self.checkpoint_every, self.info.steps_per_epoch * self.method.may_stop)
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

    def done(self, state) -> bool:
        """Whether the method ends here, before the last step."""
        return self.method.may_stop and bool(self.once('done', lambda: jax.jit(self.method.done))(state))

    def step_flops(self) -> float:
        """FLOPs of one training step as XLA counts them in the program for a TPU, the same number on every machine.

        Conditions count their dearest branch (a generator's update that comes every fifth step does so every step), loops
        one round. 0.0 if XLA gives no figure.
        """
        roles = {}
        for role, pool in self.pools.items():
            fields, size = self.datasets[pool.role.sets[0]].fields, pool.draw.batch_size
            wanted = {name: fields[name] for name in pool.role.fields if name in fields}
            kinds = {name: 'int32' if name == 'label' else 'float32' for name in wanted}
            roles[role] = {name: jax.ShapeDtypeStruct((size, *wanted[name].shape), kinds[name]) for name in wanted}
            more = ('index', *(name for name in pool.role.fields if name == 'domain'))
            roles[role] |= {name: jax.ShapeDtypeStruct((size,), jnp.int32) for name in more}
        state = jax.eval_shape(self.method.init, self.init_rng, self._example)
        traced = jax.jit(self.method.step).trace(state, step_batch(roles))
        analysis = traced.lower(lowering_platforms=('tpu',)).cost_analysis() or {}
        return float(analysis.get('flops', 0.0))

    def prepare_evaluators(self) -> None:
        """Opens what the evaluators need beside the run's own data, once; may train an extractor."""
        look = Look(self)

        def prepare():
            for evaluator in self.evaluators:
                evaluator.prepare(look)
            return True

        self.once('evaluators', prepare)

    def look(self, state, when: str, log=()) -> Look:
        """The engine's eyes on a state."""
        return Look(self, state, when=when, log=log)

    def findings(self, look: Look) -> Measured:
        """The metrics, arrays by file, protocols by metric and warnings of all evaluators that are asked at `look.when`."""
        self.prepare_evaluators()
        metrics, arrays, protocols, warnings = {}, {}, {}, []
        for evaluator in self.evaluators:
            if look.when in evaluator.when:
                found = evaluator(look.state, look)
                metrics |= found.metrics
                warnings += found.warnings
                protocols |= {name: evaluator.protocol_of(name) for name in found.metrics}
                for file, own in found.arrays.items():
                    arrays[file] = arrays.get(file, {}) | own
        if look.when == 'end':
            metrics = {name: float(value) for name, value in metrics.items() if np.ndim(value) == 0}
        return Measured(metrics, arrays, {name: protocols[name] for name in metrics if protocols[name]}, tuple(warnings))

    def measure(self, state, when: str = 'log') -> dict:
        """The metrics of all evaluators of a state."""
        return self.findings(self.look(state, when)).metrics

    @property
    def protocol(self) -> str:
        """The protocol of the final metrics, for results.json."""
        own = [evaluator.protocol for evaluator in self.evaluators if 'end' in evaluator.when]
        return '; '.join(dict.fromkeys(text for text in ('last step, test split', *own) if text))
