"""The engine's eyes on one state: how evaluators measure it on all devices, with nothing computed twice."""

import contextlib
from collections.abc import Callable

import jax
import numpy as np

from gjax import data
from gjax.metrics import MaskedMean
from gjax.train.devices import compiled, sharded
from gjax.train.extractors import find_extractor
from gjax.train.programs import make_evaluate


def _key(function: Callable):
    """What tells functions apart: bound methods of one object are equal, other functions by identity."""
    return getattr(function, '__func__', function), id(getattr(function, '__self__', None))


class Look:
    """One state under the eyes of a run's evaluators.

    Functions of batches have the form function(state, batch, *more, rng=key) -> {name: [B, ...]}. They are compiled once for
    a run, see padded batches of one size over all devices, and their results are kept as long as the state is looked at:
    evaluators that ask for the same means or rows share them. The key of batch i of any split is fold_in(key, i). Batches
    of a source carry its number as 'domain'; those of other sets have none.
    """

    def __init__(self, run, state=None, *, when: str = 'log', log=()):
        """
        Args:
          run: a `gjax.train.run.Run`.
          state: what is looked at; None while evaluators prepare.
          when: 'log' or 'end'.
          log: the lines of metrics.jsonl so far, in process 0.
        """
        self._run, self.state, self.when, self.log = run, state, when, list(log)
        self._known: dict = {}

    @property
    def info(self):
        """The `DataInfo` of the run."""
        return self._run.info

    @property
    def seed(self) -> int:
        return self._run.config.seed

    @property
    def sets(self) -> tuple[str, ...]:
        """The names of all sets: those that the method trains on, the target, the unseen ones."""
        return tuple(self._run.datasets)

    @property
    def trained(self) -> tuple[str, ...]:
        """The names of the sets that the method trains on."""
        return self._run.trained

    def prefixed(self, name: str, metric: str) -> str:
        """'SET_METRIC' or, in a run of one set, the metric alone."""
        return metric if len(self.sets) == 1 else f'{name}_{metric}'

    def count(self, name: str, split: str) -> int:
        """The number of examples of a split of the set `name`; 0 if it has none."""
        return len(self._run.datasets[name].splits.get(split, ()))

    def has(self, name: str, *fields: str) -> bool:
        """Whether the set `name` has all of these fields; a set without labels lacks 'label'."""
        return set(fields) <= self._run.datasets[name].fields.keys()

    def drawn(self, name: str, split: str, count: int) -> np.ndarray:
        """Rows of at most `count` examples of a split of the set `name`, see `gjax.data.drawn_rows`; the same every time."""

        def draw():
            return data.drawn_rows(self._run.datasets[name], split, count, self.seed)

        return self._run.once(('drawn', name, split, count), draw)

    def check(self) -> None:
        """Raises if the run has been told to stop; called before every batch."""
        self._run.check()

    def means(self, function: Callable, name: str, split: str) -> dict[str, float | list]:
        """The means of a function's results over a split of the set `name`."""

        def measure():
            mean = MaskedMean()
            for results, mask in self._batches(function, name, split, ()):
                mean.add(results, mask)
            return mean.result()

        return self._once(('means', _key(function), name, split), measure)

    def rows(self, function: Callable, name: str, split: str, *more, rows=None, keep: bool = True) -> dict[str, np.ndarray]:
        """The results [N, ...] over a split of the set `name` in index order, or for these rows of it alone; kept for others
        that ask for the same unless they depend on `more` or are too large to `keep`.
        """

        def measure():
            found = []
            for results, mask in self._batches(function, name, split, more, rows):
                found.append({key: values[mask] for key, values in results.items()})
            return {key: np.concatenate([part[key] for part in found]) for key in found[0]}

        if more or not keep:
            return measure()
        chosen = None if rows is None else tuple(rows)
        return dict(self._once(('rows', _key(function), name, split, chosen), measure))

    def first(self, function: Callable, name: str, split: str, *more) -> dict[str, np.ndarray]:
        """The results for the first batch of a split, whose key is the run's own for evaluation; computed at every call."""
        run = self._run
        program = self._evaluate(function)
        with run.feed.examples(name, split, run.config.train.eval_batch_size) as sources:
            source, mask = next(iter(sources))
            results = jax.device_get(program(self.state, source, more, run.eval_rng, self._domain(name)))
        return {key: values[mask] for key, values in results.items()}

    def over(self, function: Callable, images: np.ndarray, *more) -> dict[str, np.ndarray]:
        """The results of function(state, images in [0, 1], *more, rng=key) over uint8 images [N, H, W, C]."""
        run, size, found = self._run, self._run.config.train.eval_batch_size, []
        program = run.once(('over', _key(function)), lambda: make_evaluate(function, run.mesh, lambda batch: batch))
        for number, start in enumerate(range(0, len(images), size)):
            self.check()
            part = images[start : start + size]
            padded = np.concatenate([part, np.repeat(part[-1:], size - len(part), axis=0)]).astype(np.float32) / 255
            results = jax.device_get(program(self.state, padded, more, jax.random.fold_in(run.eval_rng, number)))
            found.append({key: values[: len(part)] for key, values in results.items()})
        return {key: np.concatenate([part[key] for part in found]) for key in found[0]}

    def batch_sizes(self) -> tuple[int, int]:
        """The size of evaluated batches and about a quarter of it, both shared evenly by the devices."""
        size, devices = self._run.config.train.eval_batch_size, self._run.mesh.size
        return size, max(size // 4 // devices, 1) * devices

    def program(self, function: Callable) -> Callable:
        """A function of arrays alone, for host code that goes through images in an order of its own.

        Args:
          function: (state, *arrays) -> arrays, pure; it is compiled once for a run and for each shape.

        Returns:
          (*arrays) -> arrays on the host. Every process calls it with the same arrays. Those whose first axis the devices
          share evenly are split over them.
        """
        run = self._run

        def call(state, *arrays):
            even = [array.ndim > 0 and array.shape[0] % run.mesh.size == 0 for array in arrays]
            arrays = [
                jax.lax.with_sharding_constraint(array, sharded(run.mesh)) if split else array
                for array, split in zip(arrays, even, strict=True)
            ]
            return function(state, *arrays)

        made = run.once(('program', _key(function)), lambda: compiled(call, run.mesh))

        def on_host(*arrays):
            self.check()
            return jax.device_get(made(self.state, *arrays))

        return on_host

    def call(self, function: Callable) -> dict:
        """The results of a function of the state alone, on the host."""
        return jax.device_get(self._run.once(('call', _key(function)), lambda: jax.jit(function))(self.state))

    def sample(self, generate: Callable, count: int) -> np.ndarray:
        """`count` results of generate(state, count, rng=key), on the host."""
        run = self._run

        def program(state, rng):
            return generate(state, count, rng=rng)

        sampled = run.once(('sample', _key(generate), count), lambda: compiled(program, run.mesh))
        return jax.device_get(sampled(self.state, run.eval_rng))

    def generated(self, generate: Callable, measure: Callable, count: int, variables) -> dict[str, np.ndarray]:
        """The results of measure(variables, images) over `count` images of generate(state, size, rng=key), in batches."""
        run, size = self._run, self._run.config.train.eval_batch_size

        def program(state, variables, rng):
            images = generate(state, size, rng=rng)
            return measure(variables, jax.lax.with_sharding_constraint(images, sharded(run.mesh)))

        made = run.once(('generated', _key(generate), _key(measure)), lambda: compiled(program, run.mesh))
        parts = []
        for number in range(-(-count // size)):
            self.check()
            parts.append(jax.device_get(made(self.state, variables, jax.random.fold_in(run.eval_rng, number))))
        return {key: np.concatenate([part[key] for part in parts])[:count] for key in parts[0]}

    def step_flops(self) -> float:
        """See `Run.step_flops`."""
        return self._run.once('step flops', self._run.step_flops)

    def extractor(self, spec: str):
        """The network whose features evaluation.extractor names; trained now if it never was. None for ''."""
        return find_extractor(spec, self._run)

    def other_set(self, name: str, key: str) -> data.Dataset:
        """A data set that is none of the run's, with images of their form.

        Raises:
          gjax.data.DataError: unknown, unreadable or of another form; one line in the words of the config's `key`.
        """
        return self._run.other_set(name, key)

    def _evaluate(self, function: Callable):
        run = self._run
        return run.once(('batches', _key(function)), lambda: make_evaluate(function, run.mesh, run.feed.batch))

    def _domain(self, name: str):
        """The number of a source; None for other sets."""
        domains = self.info.domains
        return np.int32(domains.index(name)) if name in domains else None

    def _batches(self, function: Callable, name: str, split: str, more, rows=None):
        """Yields (results on the host, mask) over a split; the last batch is padded to the common size."""
        run = self._run
        if not self.count(name, split) or (rows is not None and not len(rows)):
            raise ValueError(f'there is nothing to measure of the {split} split of {name!r}')
        program, domain = self._evaluate(function), self._domain(name)
        with contextlib.closing(_iterate(run, name, split, rows)) as batches:
            for number, (source, mask) in enumerate(batches):
                self.check()
                results = program(self.state, source, more, jax.random.fold_in(run.eval_rng, number), domain)
                yield jax.device_get(results), mask

    def _once(self, key, measure: Callable):
        if key not in self._known:
            self._known[key] = measure()
        return self._known[key]


def _iterate(run, name: str, split: str, rows):
    with run.feed.examples(name, split, run.config.train.eval_batch_size, rows) as sources:
        yield from sources
