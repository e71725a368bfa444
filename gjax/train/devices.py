"""The one mapping over devices: a mesh with the single axis 'data', batches sharded along it, all else replicated.

This is what `jax.pmap` became: `jax.jit` over a mesh, written for the global batch. A mean over the batch is the global
mean, BatchNorm sees the global batch, and a run's numbers do not depend on how many devices share it.
"""

import functools
import os

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from gjax.train.errors import RunError


def data_mesh(devices=None) -> Mesh:
    """A one-axis mesh ('data',) over `devices`, default all; Auto axes, so that gathers over the batch stay legal."""
    devices = jax.devices() if devices is None else devices
    return jax.make_mesh((len(devices),), ('data',), axis_types=(AxisType.Auto,), devices=devices)


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding of whole copies on every device."""
    return NamedSharding(mesh, PartitionSpec())


def sharded(mesh: Mesh, axis: int = 0) -> NamedSharding:
    """The sharding of batches: `axis`, by default the leading one, split over the devices."""
    return NamedSharding(mesh, PartitionSpec(*(None,) * axis, 'data'))


# XLA's CPU backend hands products, sums and convolutions to YNNPACK, whose convolutions are slower than XLA's own on most
# shapes here, up to five times (LeNet's first layer). Without its sums and products steps take a tenth longer. (jaxlib
# 0.10.2 gets one pattern wrong there, small matrices times many vectors, summed: jax issue 39103. Those that networks here
# have are right, which a test of `compiled` looks at.)
_YNN = 'xla_cpu_experimental_ynn_fusion_type'
_CPU_OPTIONS = {_YNN: 'LIBRARY_FUSION_TYPE_DOT,LIBRARY_FUSION_TYPE_REDUCE'}


@functools.cache
def _options(platform: str) -> dict:
    """XLA's options for programs of this platform; {} where this jaxlib does not know them, or the user has set them."""
    if platform != 'cpu' or _YNN in os.environ.get('XLA_FLAGS', ''):
        return {}
    probe = jax.jit(jnp.negative, compiler_options=_CPU_OPTIONS)
    try:
        probe.lower(jax.ShapeDtypeStruct((), jnp.float32)).compile()
    except jax.errors.JaxRuntimeError as error:
        if 'No such compile option' not in str(error) and 'not a valid' not in str(error):
            raise
        return {}
    return _CPU_OPTIONS


def compiled(function, mesh: Mesh, *, options: dict | None = None, **rest):
    """`jax.jit` of a function whose results every device gets whole.

    options: more of XLA's, over those for the platform of the mesh. rest: as of `jax.jit`. Because of the options it cannot
    be called inside another `jax.jit`.
    """
    options = _options(mesh.devices.flat[0].platform) | (options or {})
    return jax.jit(function, out_shardings=replicated(mesh), compiler_options=options or None, **rest)


def device_memory(mesh: Mesh) -> int:
    """Bytes of the smallest device of this process; on CPUs its share of the machine's memory."""
    limits = [(device.memory_stats() or {}).get('bytes_limit') for device in mesh.local_devices]
    machine = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
    return min(limit or machine // len(limits) for limit in limits)


def check_divisible(name: str, batch_size: int, mesh: Mesh) -> None:
    """Raises RunError unless the devices share a batch of this size evenly."""
    if batch_size <= 0 or batch_size % mesh.size:
        raise RunError(f'{name} is {batch_size}; allowed: positive multiples of {mesh.size}, the number of devices')
