"""Several splits as one pool of examples, and the order in which a role draws from it: pure functions of (key, step)."""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from gjax.data.batching import epoch_order
from gjax.data.dataset import Split


@dataclasses.dataclass(frozen=True, eq=False)
class PooledRecords:
    """Several splits as one: the examples of the first, then those of the second, ..."""

    parts: tuple

    @property
    def bounds(self) -> tuple[int, ...]:
        """Where each part but the first begins, and where the last ends."""
        ends, total = [], 0
        for part in self.parts:
            total += len(part)
            ends.append(total)
        return tuple(ends)

    def __len__(self):
        return self.bounds[-1]

    def read(self, rows):
        """The examples of these rows, in this order."""
        rows, bounds = np.asarray(rows), self.bounds
        owner = np.searchsorted(bounds, rows, side='right')
        columns: dict = {}
        for number, part in enumerate(self.parts):
            places = np.flatnonzero(owner == number)
            if not len(places):
                continue
            start = bounds[number - 1] if number else 0
            for name, values in part.read(rows[places] - start).columns.items():
                if name not in columns:
                    columns[name] = np.zeros((len(rows), *values.shape[1:]), values.dtype)
                columns[name][places] = values
        return Split(columns)

    def class_labels(self):
        """The class of every example, int [N]."""
        return np.concatenate([part.class_labels() for part in self.parts])


@dataclasses.dataclass(frozen=True, eq=False)
class Draw:
    """Which examples of a pool make the batch of each step.

    A batch holds the same number of examples of every group, one group after the other. Each group is drawn in epochs of its
    own: a fresh permutation each, whose left-over examples wait for another epoch.
    """

    groups: tuple[np.ndarray, ...]  # rows of the pool, ascending, int32
    batch_size: int
    replacement: bool = False  # every draw is independent of the others instead

    @property
    def share(self) -> int:
        """Examples of each group in a batch."""
        return self.batch_size // len(self.groups)

    @property
    def steps_per_epoch(self) -> int:
        """Steps until the smallest group has been seen once; at least 1."""
        return max(1, min(len(group) for group in self.groups) // self.share)

    def keys(self, rng) -> list:
        """The key of each group: `rng` itself for a single one."""
        count = len(self.groups)
        return [rng] if count == 1 else [jax.random.fold_in(rng, number) for number in range(count)]

    def rows(self, number: int, positions):
        """The rows of the pool at these positions of a group."""
        rows = self.groups[number]
        first = int(rows[0])
        if rows[-1] - first == len(rows) - 1:  # one after the other
            return positions + first if first else positions
        return jnp.asarray(rows)[positions]

    def reader(self, rng, first_step, max_steps: int) -> Callable:
        """Inside jit: the function step -> rows [batch_size] of the pool, for `max_steps` steps from `first_step` on."""
        parts = [self._group_reader(*pair, first_step, max_steps) for pair in enumerate(self.keys(rng))]
        if len(parts) == 1:
            return parts[0]
        return lambda step: jnp.concatenate([part(step) for part in parts])

    def _group_reader(self, number: int, rng, first_step, max_steps: int) -> Callable:
        size, share = len(self.groups[number]), self.share
        if self.replacement:

            def draw(step):
                return self.rows(number, jax.random.randint(jax.random.fold_in(rng, step), (share,), 0, size))

            return draw
        steps_per_epoch = size // share
        first_epoch = first_step // steps_per_epoch
        epochs = 1 + -(-max_steps // steps_per_epoch)
        orders = jnp.stack([epoch_order(rng, first_epoch + i, size) for i in range(epochs)])

        def read(step):
            epoch, position = step // steps_per_epoch, step % steps_per_epoch
            order = orders[epoch - first_epoch]
            return self.rows(number, jax.lax.dynamic_slice_in_dim(order, position * share, share))

        return read


@dataclasses.dataclass(frozen=True, eq=False)
class HostDraw:
    """A `Draw` on the host, for processes that decode: the same rows, as NumPy arrays."""

    draw: Draw
    key: np.ndarray  # the words of the role's key

    @functools.cached_property
    def _orders(self):
        # A batch needs one epoch's order of each group; two meet where epochs do.
        return functools.lru_cache(2 * len(self.draw.groups))(self._order)

    def __getstate__(self):
        return {key: value for key, value in self.__dict__.items() if key != '_orders'}

    def _order(self, number: int, epoch: int) -> np.ndarray:
        with jax.default_device(_host_device()):
            rng = self.draw.keys(jax.random.wrap_key_data(self.key))[number]
            if self.draw.replacement:
                size = len(self.draw.groups[number])
                return np.asarray(jax.random.randint(jax.random.fold_in(rng, epoch), (self.draw.share,), 0, size))
            return np.asarray(epoch_order(rng, epoch, len(self.draw.groups[number])))

    def __call__(self, step: int) -> np.ndarray:
        """The rows of the pool in the batch of a step, int32 [batch_size]."""
        share, parts = self.draw.share, []
        for number, group in enumerate(self.draw.groups):
            if self.draw.replacement:
                positions = self._orders(number, int(step))
            else:
                epoch, position = divmod(int(step), len(group) // share)
                positions = self._orders(number, epoch)[position * share : (position + 1) * share]
            parts.append(group[positions])
        return np.concatenate(parts).astype(np.int32)


def _host_device():
    """A CPU device if this process may have one, else its first device."""
    try:
        return jax.local_devices(backend='cpu')[0]
    except RuntimeError:
        return jax.local_devices()[0]
