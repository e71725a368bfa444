"""The toy data of the contract battery, and the finished runs that several of its files compare with."""

import jax
import pytest

from gjax.train.devices import data_mesh
from gjax.train.loop import train_and_evaluate
from tests.contract.cases import L2, tiny_config
from tests.toy import write_toy


@pytest.fixture(scope='session')
def toy_data(once):
    """The name of the data set `tests.toy.write_toy` writes; its other domain lies beside it."""
    return f'npz:{once("toy", write_toy)}/toy.npz'


@pytest.fixture(scope='session')
def finished(toy_data, once):
    """(case, devices) -> the directory of a case's tiny run by one process on so many devices, trained once."""

    def directory(case, devices):
        config, mesh = tiny_config(case, toy_data, **L2), data_mesh(jax.devices()[:devices])
        return once(f'finished_{case}_on_{devices}', lambda out: train_and_evaluate(config, out, mesh=mesh))

    return directory
