"""One of several processes that train the tiny run of every case, one run after the other.

python -m tests.contract.several ADDRESS COUNT NUMBER DATA OUT STREAMING CASE...
Beside each run, process 0 stores the examples of every step as OUT/CASE/examples_of_steps.npy. The case `chain` is a
pipeline (`cases.chain_config`), whose runs lie in OUT/chain/STAGE.
"""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from gjax.train import processes
from gjax.train.devices import replicated
from gjax.train.loop import train_and_evaluate
from gjax.train.run import Run
from tests.contract.cases import L2, chain_config, tiny_config

CHAIN = 'chain'


def examples_of_steps(run) -> np.ndarray:
    """The indices of the examples of every step, [steps, B], as the compiled step reads them from the feed; those of all
    roles one after the other."""

    def read(source, step):
        roles = run.feed.begin(source, step, run.steps_per_call)(0, step)
        return jnp.concatenate([batch['index'] for batch in roles.values()])

    read = jax.jit(read, out_shardings=replicated(run.mesh))
    with run.feed.chunks(0, [1] * run.num_steps) as sources:
        return np.stack([np.asarray(read(source, np.int32(step))) for step, source in enumerate(sources)])


def main(address, count, number, data, out, streaming, *cases):
    processes.start(address, int(count), int(number))
    jax.config.update('jax_numpy_rank_promotion', 'raise')
    assert jax.process_count() == int(count)
    for case in cases:
        if case == CHAIN:
            train_and_evaluate(chain_config(data), Path(out, case))
            continue
        config = tiny_config(case, data, data__streaming=streaming, **L2)
        train_and_evaluate(config, Path(out, case))
        index = examples_of_steps(Run(config))
        if processes.is_main():
            np.save(Path(out, case, 'examples_of_steps.npy'), index)


if __name__ == '__main__':
    main(*sys.argv[1:])
