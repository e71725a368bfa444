"""What the process of PyTorch answers in the suites `steps` and `attacks`, on the device that JAX runs on; its works are in
works.py.
"""

import contextlib
import ctypes
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from experiments.benchmarks.torch.nets import load, tensor
from experiments.benchmarks.torch.works import WORKS, Work

HELD = {}  # the work that this process holds


def prepare(kind: str, sizes: dict, variables: dict, images, labels, threads: int, device='cpu', dtype='float32') -> None:
    """Holds a work, its variables by player (parameters, batch statistics), and the training images, uint8 NHWC, that its
    steps draw from.

    dtype: of the arithmetic of the steps that are measured, by autocast; losses are always checked in float32.
    """
    if device == 'cuda' and not torch.cuda.is_available():
        raise RuntimeError('JAX runs on a GPU, and this PyTorch sees none')
    HELD['compiled'] = tempfile.TemporaryDirectory()  # nothing is compiled yet
    os.environ['TORCHINDUCTOR_CACHE_DIR'] = HELD['compiled'].name
    torch.backends.cudnn.benchmark = True  # as XLA tries its routines
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    torch.compiler.reset()  # another work's sizes would make this one's dynamic
    torch._dynamo.config.fail_on_recompile_limit_hit = True  # rather than go on in eager mode
    sizes = sizes | {'count': len(images)}
    HELD.update(kind=kind, sizes=sizes, variables=variables, works={}, device=device, dtype=dtype)
    HELD['labels'], HELD['images'] = tensor(labels).long().to(device), _nchw(images)


def _nchw(images) -> torch.Tensor:
    return tensor(images).permute(0, 3, 1, 2).contiguous().to(HELD['device'])


def _tf32(allowed: bool) -> None:
    if HELD['device'] == 'cuda':
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allowed


def _work(mode: str) -> Work:
    if mode not in HELD['works']:
        with torch.device(HELD['device']):
            work = WORKS[HELD['kind']](HELD['sizes'])
        for player, (params, stats) in HELD['variables'].items():
            load(work.modules[player], params, stats)
            if mode == 'channels_last':
                work.modules[player].to(memory_format=torch.channels_last)
            elif mode == 'compile':
                work.modules[player].compile(dynamic=False)  # every size its own, as for XLA
        HELD['works'][mode] = work
    return HELD['works'][mode]


def losses(mode: str, images, labels, draws, sizes) -> list[dict]:
    """The losses of steps on these float images in NHWC, with these draws, of new modules; sizes: of these steps alone."""
    HELD['works'].pop(mode, None)
    _tf32(False)
    work, images, labels = _work(mode), _nchw(images), tensor(labels).long().to(HELD['device'])
    found, work.rows, work.sizes = [], torch.arange(len(images), device=HELD['device']), HELD['sizes'] | sizes
    for own in draws:
        own = [_nchw(d) if d.ndim == 4 else tensor(d).to(HELD['device']) for d in own]
        found.append({player: float(loss) for player, loss in work.step(images, labels, own).items()})
    work.sizes = HELD['sizes']
    return found


def _batch(mode: str):
    sizes = HELD['sizes']
    rows = HELD['works'][mode].rows = torch.randint(sizes['count'], (sizes['rows'],), device=HELD['device'])
    images = HELD['images'][rows].float().div_(255)
    if sizes['padding']:
        images = _augmented(images, sizes['padding'])
    if mode == 'channels_last':
        images = images.contiguous(memory_format=torch.channels_last)
    return images, HELD['labels'][rows]


def _augmented(images, padding: int):
    """Random crops after padding, and mirror images, each image its own."""
    count, _, height, width = images.shape
    padded = F.pad(images, (padding,) * 4, mode='reflect')
    with torch.device(images.device):
        tops, lefts = torch.randint(2 * padding + 1, (2, count))
        rows = (tops[:, None] + torch.arange(height))[:, None, :, None]
        columns = torch.arange(width).expand(count, width)
        columns = torch.where(torch.rand(count, 1) < 0.5, columns, width - 1 - columns)
        columns = (lefts[:, None] + columns)[:, None, None, :]
        index = torch.arange(count)[:, None, None, None], torch.arange(images.shape[1])[None, :, None, None], rows, columns
    return padded[index]


@contextlib.contextmanager
def _measuring():
    """In the work's arithmetic; a GPU has done all when it begins and when it ends."""
    cuda = HELD['device'] == 'cuda'
    _tf32(True)  # as XLA's default
    # Cached casts would outlive the optimiser's step, and those made without gradients would be used with them.
    with torch.autocast(HELD['device'], torch.bfloat16, enabled=HELD['dtype'] == 'bfloat16', cache_enabled=False):
        if cuda:
            torch.cuda.synchronize()
        yield
        if cuda:
            torch.cuda.synchronize()


def _mebibytes(field: str) -> float:
    """A line of /proc/self/status, of Linux."""
    lines = Path('/proc/self/status').read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) / 1024


def peak_memory(mode: str) -> float:
    """MiB of parameters and optimiser states, and what this process grows by during a step; 0.0 where it cannot be told."""
    work = _work(mode)
    with _measuring():
        work.step(*_batch(mode), None)
    held = [p for module in work.modules.values() for p in (*module.parameters(), *module.buffers())]
    held += [v for o in work.optimizers.values() for own in o.state.values() for v in own.values() if torch.is_tensor(v)]
    for optimizer in work.optimizers.values():
        optimizer.zero_grad(set_to_none=True)
    own = sum(v.numel() * v.element_size() for v in held) / 2**20
    if HELD['device'] == 'cuda':
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        with _measuring():
            work.step(*_batch(mode), None)
        return own + (torch.cuda.max_memory_allocated() - before) / 2**20
    try:
        ctypes.CDLL(None).malloc_trim(0)  # what is free but not given back would hide growth
        Path('/proc/self/clear_refs').write_text('5')  # the peak begins anew
        before = _mebibytes('VmRSS')
        with _measuring():
            work.step(*_batch(mode), None)
        grown = _mebibytes('VmHWM') - before
    except (OSError, AttributeError, StopIteration):
        return 0.0
    return own + grown


def milliseconds(mode: str, steps: int) -> float:
    """Of one training step, its data and augmentation included: the mean over `steps`."""
    work = _work(mode)
    with _measuring():
        started = time.monotonic()
        for _ in range(steps):
            work.step(*_batch(mode), None)
    return 1000 * (time.monotonic() - started) / steps


def attacked(images, labels, start, steps: int) -> np.ndarray:
    """PGD of these float images in NHWC from this start."""
    _tf32(False)
    found = _work('eager').attack(_nchw(images), tensor(labels).long().to(HELD['device']), _nchw(start), steps)
    return found.permute(0, 2, 3, 1).cpu().numpy()


def attack_milliseconds(mode: str, steps: int, count: int) -> float:
    """Of PGD on a batch, and of counting what is left right: the mean over `count` batches."""
    work, eps = _work(mode), HELD['sizes']['eps']
    with _measuring():
        started = time.monotonic()
        for _ in range(count):
            images, labels = _batch(mode)
            found = work.attack(images, labels, torch.empty_like(images).uniform_(-eps, eps), steps)
            with torch.no_grad():
                (work.modules['classifier'].eval()(found).argmax(1) == labels).sum().item()
    return 1000 * (time.monotonic() - started) / count


def autoattacked(name: str, images, labels, eps: float) -> tuple[float, int]:
    """Seconds that one attack of AutoAttack's standard version (linf) takes on these float images in NHWC, in the authors'
    code, and how many of them stand after it.
    """
    import pyautoattack

    module = _work('eager').modules['classifier'].eval().requires_grad_(False)
    images, labels = _nchw(images), tensor(labels).long().to(HELD['device'])
    options = {'norm': 'Linf', 'eps': eps, 'seed': 0, 'device': HELD['device']}
    attack = pyautoattack.AutoAttack(module, version='standard', **options)
    attack.attacks_to_run = [name]
    with _measuring():
        started = time.monotonic()
        found, _ = attack.run_standard_evaluation(images, labels, batch_size=len(images))
        with torch.no_grad():
            standing = (module(found).argmax(1) == labels).sum().item()
    return time.monotonic() - started, standing
