"""Several processes as one run: how they find each other, what they agree on, and which of them writes.

Every process runs the same program on the same global arrays. Process 0 alone writes: logs, results, figures and
checkpoints, which all wait for and all read.
"""

import importlib.util
import os
from pathlib import Path

import jax
import numpy as np
from jax.experimental import multihost_utils

from gjax.train.errors import RunError

HEARTBEAT_SECONDS = 30  # a process that is silent for so long is given up, and the run with it


def launched(environment=os.environ) -> bool:
    """Whether a launcher that JAX can ask for addresses started this process beside others: SLURM, Open MPI, Kubernetes."""

    def several(name):
        return environment.get(name, '').isdigit() and int(environment[name]) > 1

    if several('SLURM_NTASKS') and 'SLURM_PROCID' in environment and 'SLURM_STEP_NODELIST' in environment:
        return True
    if several('OMPI_COMM_WORLD_SIZE') or 'MEGASCALE_COORDINATOR_ADDRESS' in environment:
        return True
    in_job = 'KUBERNETES_SERVICE_HOST' in environment and 'JOB_COMPLETION_INDEX' in environment
    if in_job and importlib.util.find_spec('kubernetes'):  # JAX asks Kubernetes through that package
        return True
    return ',' in environment.get('TPU_WORKER_HOSTNAMES', '')


def has_tpu(devices: Path = Path('/dev')) -> bool:
    """Whether this machine has a TPU, which may be one host of a slice: JAX asks its metadata."""
    found = any(devices.glob('accel[0-9]*')) or any((devices / 'vfio').glob('[0-9]*'))
    return found and importlib.util.find_spec('libtpu') is not None


def start(coordinator_address: str | None = None, num_processes: int | None = None, process_id: int | None = None) -> None:
    """Joins this process to the others; call it before anything touches a device. Without arguments it
    does so only if `launched` or `has_tpu`.

    Args:
      coordinator_address: HOST:PORT of process 0, the same in every process.
      num_processes: how many there are.
      process_id: this one's number, 0..num_processes-1.

    Raises:
      RunError: some of the arguments are missing or impossible, or the others cannot be reached.
    """
    given = {'coordinator_address': coordinator_address, 'num_processes': num_processes, 'process_id': process_id}
    missing = [f'--{name}' for name, value in given.items() if value is None]
    if len(missing) == 3 and not launched() and not has_tpu():
        return
    if 0 < len(missing) < 3:
        raise RunError(f'{" and ".join(missing)} missing; allowed: all of --{", --".join(given)}, or none of them')
    if not missing:
        if num_processes < 1 or not 0 <= process_id < num_processes:
            raise RunError(f'--process_id is {process_id} of --num_processes {num_processes}; allowed: 0..num_processes-1')
        host, colon, port = coordinator_address.rpartition(':')
        if not (host and colon and port.isdigit()):
            raise RunError(f'--coordinator_address is {coordinator_address!r}; allowed: HOST:PORT')
    try:
        jax.distributed.initialize(**given, heartbeat_timeout_seconds=HEARTBEAT_SECONDS)
    except (RuntimeError, ValueError) as error:
        if missing and not launched() and 'coordinator_address should be defined' in str(error):
            return  # a machine with a TPU of its own
        raise RunError(f'cannot join the other processes: {error}; try all of --{", --".join(given)}') from error


def several() -> bool:
    """Whether this process has joined others."""
    return jax.distributed.is_initialized() and jax.process_count() > 1


def is_connection_error(error: Exception) -> bool:
    """Whether the error is what a collective operation or JAX's coordination raises when another process is gone."""
    words = ('gloo', 'nccl', 'coordination', 'heartbeat', 'connection', 'peer', 'barrier')
    return any(word in str(error).lower() for word in words)


def is_main() -> bool:
    """Whether this process writes logs, results and figures."""
    return jax.process_index() == 0


def barrier(name: str) -> None:
    """Returns when every process has come here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def agree(value: int) -> int:
    """The largest of the processes' values, in every process; all must call it."""
    if jax.process_count() == 1:
        return value
    return int(np.max(multihost_utils.process_allgather(np.int32(value))))
