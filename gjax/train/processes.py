"""Several processes as one run: how they find each other, what they agree on, and which of them writes.

Every process runs the same program on the same global arrays. Process 0 alone writes: logs, results, figures and
checkpoints, which all wait for and all read.
"""

import importlib.util
import ipaddress
import os
import socket
import warnings
from pathlib import Path

import jax
import numpy as np
from jax.experimental import multihost_utils

from gjax.train.errors import RunError, RunWarning

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


def _host(address: str, name: str) -> str:
    """The HOST of HOST:PORT or [HOST]:PORT; RunError, one line with the option's name, for anything else."""
    host, colon, port = address.rpartition(':')
    if not (host and colon and port.isdigit()):
        raise RunError(f'--{name} is {address!r}; allowed: HOST:PORT')
    return host.removeprefix('[').removesuffix(']')


def is_here(host: str) -> bool:
    """Whether a host is this machine, by all its addresses, so that who asks there comes here.

    A name that means the loopback interface here and nowhere else, as the machine's own name does on Debian, is not.
    """
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        for family, kind, protocol, _, address in found:
            with socket.socket(family, kind, protocol) as probe:
                probe.bind(address)  # port 0: any that is free
    except (OSError, UnicodeError):
        return False
    addresses = [ipaddress.ip_address(address[0].partition('%')[0]) for *_, address in found]
    return host == 'localhost' or host == str(addresses[0]) or not any(address.is_loopback for address in addresses)


def start(
    coordinator_address: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    coordinator_bind_address: str | None = None,
) -> None:
    """Joins this process to the others; call it before anything that touches a device. Without arguments it
    does so only if `launched` or `has_tpu`.

    Process 0 listens, and believes whoever comes. Where `coordinator_address` is an address of its machine it listens there
    alone. Elsewhere (behind a gateway, under a launcher) it does so on all interfaces, like JAX itself, unless
    `coordinator_bind_address` or JAX's own JAX_COORDINATOR_BIND_ADDRESS says where; a warning tells of it.

    Args:
      coordinator_address: HOST:PORT at which all find process 0, the same in every process.
      num_processes: how many there are.
      process_id: this one's number, 0..num_processes-1.
      coordinator_bind_address: HOST:PORT at which process 0 listens; the others do not look at it.

    Raises:
      RunError: some of the arguments are missing or impossible, or the others cannot be reached.
    """
    given = {'coordinator_address': coordinator_address, 'num_processes': num_processes, 'process_id': process_id}
    missing = [f'--{name}' for name, value in given.items() if value is None]
    bind = coordinator_bind_address
    if bind is not None:
        _host(bind, 'coordinator_bind_address')
    if len(missing) == 3 and not launched() and not has_tpu():
        if bind is not None:
            raise RunError(f'--coordinator_bind_address is {bind!r}; allowed: with --{", --".join(given)}, or a launcher')
        return
    if 0 < len(missing) < 3:
        raise RunError(f'{" and ".join(missing)} missing; allowed: all of --{", --".join(given)}, or none of them')
    if not missing:
        if num_processes < 1 or not 0 <= process_id < num_processes:
            raise RunError(f'--process_id is {process_id} of --num_processes {num_processes}; allowed: 0..num_processes-1')
        host = _host(coordinator_address, 'coordinator_address')
        if bind is None and process_id == 0 and 'JAX_COORDINATOR_BIND_ADDRESS' not in os.environ:
            bind = _bind_address(coordinator_address, host)
    try:
        jax.distributed.initialize(**given, coordinator_bind_address=bind, heartbeat_timeout_seconds=HEARTBEAT_SECONDS)
    except (RuntimeError, ValueError) as error:
        if missing and not launched() and 'coordinator_address should be defined' in str(error):
            return  # a machine with a TPU of its own
        raise RunError(f'cannot join the other processes: {error}; try all of --{", --".join(given)}') from error


def _bind_address(address: str, host: str) -> str | None:
    """The address, if it is one of this machine; else None, JAX's own choice, with a warning."""
    if is_here(host):
        return address
    warnings.warn(
        f'process 0 listens on all interfaces: {host} is not known here as an address of this machine; '
        '--coordinator_bind_address=HOST:PORT says where it shall listen',
        RunWarning,
        stacklevel=3,
    )
    return None


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
