"""One training of a case, from which the battery reads everything that a method must do.

A case compiles one training loop on eight devices and one on a single device, and its evaluators' functions once on each.
Seeds, orders and data are arguments of those programs, so that other seeds and repetitions compile nothing.
"""

import contextlib
import dataclasses
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np

from gjax.train.devices import data_mesh, replicated
from gjax.train.run import Run
from gjax.train.store.checkpoint import to_arrays
from tests.contract.cases import BATTERY, battery_config

SAVED, COMPARED = 4, 7  # steps: of the checkpoint, and until which runs are compared


@dataclasses.dataclass(frozen=True)
class Training:
    """What a training leaves: states by step, as arrays and as they are, and every metric as an array over all steps."""

    states: dict
    metrics: dict

    @cached_property
    def arrays(self) -> dict:
        return {step: to_arrays(state) for step, state in self.states.items()}


def copied(state, mesh):
    """A copy of a state on all devices of a mesh; a training may take it."""
    return jax.device_put(jax.tree.map(jnp.copy, state), replicated(mesh))


def train(run, state, stops, start: int = 0) -> Training:
    """Trains from `state`, which it takes, at step `start`, to the last of the steps `stops`; keeps the states at all."""
    states, collected = {}, []
    with contextlib.closing(run.advance(state, start, stops)) as calls:
        for new, step, metrics in calls:
            collected.append(metrics)
            if step in stops:
                states[step] = copied(new, run.mesh)
            if step == max(stops):
                break
    return Training(states, {name: np.concatenate([part[name] for part in collected]) for name in collected[0]})


def with_seed(run, config, seed: int) -> Run:
    """The run of another seed that shares what `run` has compiled."""
    config = config.copy_and_resolve_references()
    config.seed = seed
    other = Run(config, run.mesh)
    other.train_call, other._compiled = run.train_call, run._compiled
    return other


class Battery:
    """The trainings of one case. `whole` goes to the end; the others stop where they have been compared."""

    def __init__(self, name: str, data_name: str):
        self.case, self.config = BATTERY[name], battery_config(name, data_name)
        self.run = Run(self.config, data_mesh(jax.devices()[:8]))
        self.alone = Run(self.config, data_mesh(jax.devices()[:1]))
        self.first = self.run.init()
        self.whole = train(self.run, self.begin(self.run), (1, SAVED, COMPARED, self.run.num_steps))

    def begin(self, run):
        """A state at step 0 on the devices of `run`, whose initialisation is compiled for eight devices alone."""
        return copied(self.first, run.mesh)
