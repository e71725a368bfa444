"""The roles of a method as pools of examples with an order, and what an epoch is."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from gjax import data
from gjax.methods.core.contract import DRAWS, Role
from gjax.train.errors import RunError


@dataclasses.dataclass(frozen=True, eq=False)
class Pool:
    """The examples of one role, and how its batches are drawn."""

    role: Role
    records: data.PooledRecords
    draw: data.Draw
    rng: jax.Array  # orders the epochs
    numbers: tuple[int, ...]  # of its sets among the sources, as a batch's 'domain' has them

    @property
    def rows(self) -> np.ndarray:
        """The rows that may be drawn, ascending."""
        return np.sort(np.concatenate(self.draw.groups))

    def batch(self, batch: dict) -> dict:
        """Inside jit: the part of a batch that the role asks for, with 'domain' if it does."""
        if 'domain' in self.role.fields:
            bounds = jnp.asarray(self.records.bounds, jnp.int32)
            position = jnp.searchsorted(bounds, batch['index'], side='right')
            batch = batch | {'domain': jnp.asarray(self.numbers, jnp.int32)[position]}
        return {name: values for name, values in batch.items() if name in (*self.role.fields, 'index')}


def steps_per_epoch(pools: dict[str, Pool]) -> int:
    """An epoch: the steps after which the smallest pool (of a pool drawn in parts, its smallest part) has been seen once.

    0 without data: all steps of such a run are one epoch.
    """
    return min((pool.draw.steps_per_epoch for pool in pools.values()), default=0)


def make_pools(
    roles: dict[str, Role], datasets: dict[str, data.Dataset], batch_size: int, rng, domains: tuple[str, ...] = ()
) -> dict[str, Pool]:
    """The pools of all roles. A single role takes the key as it is, several take fold_in(key, i).

    domains: the sources, which 'domain' numbers; other sets, e.g. the target, come after them.

    Raises:
      RunError: a role asks for what the data cannot give; one line.
    """
    pools = {}
    for number, (name, role) in enumerate(roles.items()):
        own_rng = rng if len(roles) == 1 else jax.random.fold_in(rng, number)
        numbers = tuple(domains.index(own) if own in domains else len(domains) + i for i, own in enumerate(role.sets))
        pools[name] = _pool(name, role, datasets, role.batch_size or batch_size, own_rng, numbers, domains)
    return pools


def _pool(name: str, role: Role, datasets, batch_size: int, rng, numbers, domains) -> Pool:
    columns = tuple(datasets[role.sets[0]].fields)
    role, fields = role._replace(fields=role.fields or columns), {*columns, 'domain'}
    asks_labels = 'label' in role.fields or role.classes or role.draw == 'classes'
    if bad := [own for own in role.sets if asks_labels and 'label' not in datasets[own].fields]:
        key = 'data.target' if bad[0] == 'target' else 'data.sources' if len(domains) > 1 else 'data.name'
        raise RunError(
            f'{key} is {datasets[bad[0]].name!r}, which has no labels; allowed: labels, which the method trains on'
        )
    for field in role.fields:
        if field not in fields:
            raise RunError(
                f'role {name!r} asks for {field!r}; allowed for {", ".join(role.sets)}: {", ".join(sorted(fields))}'
            )
    if role.draw not in DRAWS:
        raise RunError(f'role {name!r} draws {role.draw!r}; allowed: {", ".join(DRAWS)}')
    records = data.PooledRecords(tuple(datasets[own].train for own in role.sets))
    groups = [np.arange(len(records), dtype=np.int32)]
    if role.draw == 'equal':
        groups = np.split(groups[0], records.bounds[:-1])
    if role.classes or role.draw == 'classes':
        kind, classes = datasets[role.sets[0]].fields['label'].kind, datasets[role.sets[0]].num_classes
        if kind != 'label' or not set(role.classes) <= set(range(classes)):
            raise RunError(
                f'role {name!r} draws by classes {role.classes}; allowed for labels alone (here: {kind}): 0..{classes - 1}'
            )
        labels = np.asarray(records.class_labels())
        chosen = role.classes or tuple(range(datasets[role.sets[0]].num_classes))
        if role.draw == 'classes':
            groups = [np.flatnonzero(labels == k).astype(np.int32) for k in chosen]
        else:
            groups = [rows[np.isin(labels[rows], chosen)] for rows in groups]
    whose = f' of the {name}' if name else ''
    if batch_size % len(groups):
        parts = {'equal': 'sets', 'classes': 'classes'}[role.draw]
        raise RunError(
            f'train.batch_size is {batch_size}{whose}; allowed: multiples of {len(groups)}, the {parts} it is drawn from'
        )
    least = min(len(rows) for rows in groups)
    if least * len(groups) < batch_size and not (role.replacement and least):
        what = 'the training examples' if len(groups) == 1 else f'{len(groups)} times those of the smallest part'
        raise RunError(f'train.batch_size is {batch_size}; allowed: at most {least * len(groups)}, {what}{whose}')
    return Pool(role, records, data.Draw(tuple(groups), batch_size, role.replacement), rng, numbers)
