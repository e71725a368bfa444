"""Training steps and attacks as a good PyTorch user would write them: the peers of the suites `steps` and `attacks`. Runs in
a process of its own, on the device that JAX runs on.
"""

import contextlib
import ctypes
import math
import os
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from experiments.benchmarks.torch_nets import (
    MLP,
    DCGANDecoder,
    DCGANTrunk,
    Glow,
    GTADiscriminator,
    GTAEmbedding,
    GTAGenerator,
    Headed,
    PreActResNet,
    ResNetDecoder,
    ResNetTrunk,
    load,
    tensor,
)

HELD = {}  # the work that this process holds


def adam(module, options):
    return torch.optim.Adam(module.parameters(), lr=options['rate'], betas=(options['b1'], options['b2']), fused=True)


def sgd(module, options):
    return torch.optim.SGD(
        module.parameters(), lr=options['rate'], momentum=options['momentum'], weight_decay=options['decay'], fused=True
    )


class Work:
    """modules: by player. step(images, labels, draws) trains one step and gives the losses by player; draws: the random
    numbers that gjax has drawn, or None for torch's own."""

    def __init__(self, sizes: dict, modules: dict, optimizer):
        self.sizes, self.modules = sizes, modules
        self.optimizers = {player: optimizer(module, sizes['optimizer']) for player, module in modules.items()}

    def noise(self, draws, number, shape):
        return torch.randn(shape, device=HELD['device']) if draws is None else draws[number]

    def descend(self, loss, *players):
        for player in players:
            self.optimizers[player].zero_grad(set_to_none=True)
        loss.backward()
        for player in players:
            self.optimizers[player].step()
        return loss.detach()


class Classification(Work):
    """Cross-entropy, of attacked images if `attack_steps` says so (PGD from a uniform start)."""

    def __init__(self, sizes, module):
        super().__init__(sizes, {'classifier': module}, sgd)

    def attack(self, images, labels, start, steps, eps=None, step_size=None):
        module = self.modules['classifier'].eval().requires_grad_(False)  # only images have gradients
        if eps is None:
            eps, step_size = self.sizes['eps'], self.sizes['step_size']
        x = (images + start).clamp(0, 1)
        for _ in range(steps):
            x.requires_grad_()
            (gradient,) = torch.autograd.grad(F.cross_entropy(module(x), labels, reduction='sum'), x)
            x = x.detach() + step_size * gradient.sign()
            x = torch.min(torch.max(x, images - eps), images + eps).clamp(0, 1)
        module.train().requires_grad_(True)
        return x

    def step(self, images, labels, draws):
        if self.sizes['attack_steps']:
            eps = self.sizes['eps']
            start = torch.empty_like(images).uniform_(-eps, eps) if draws is None else draws[0]
            images = self.attack(images, labels, start, self.sizes['attack_steps'])
        loss = F.cross_entropy(self.modules['classifier'](images), labels)
        return {'classifier': self.descend(loss, 'classifier')}


class IAAT(Classification):
    """Instance-adaptive adversarial training after its warm-up, BatchNorm frozen under attack; radii begin at `eps`."""

    def __init__(self, sizes, module):
        super().__init__(sizes, module)
        self.radius = torch.full((len(HELD['images']),), sizes['eps'])

    def step(self, images, labels, draws):
        own, module, remembered = self.sizes, self.modules['classifier'], self.radius[HELD['rows']]

        def attacked(radius, number):
            eps = radius[:, None, None, None]
            unit = torch.empty_like(images).uniform_(-1, 1) if draws is None else draws[number]
            step_size = (eps / (0.5 * own['attack_steps'])).clamp(min=own['min_step'])
            return self.attack(images, labels, eps * unit, own['attack_steps'], eps, step_size)

        def right(images):
            with torch.no_grad():
                return module.eval()(images).argmax(1) == labels

        clean, robust = right(images), right(attacked(remembered, 0))
        above = right(attacked(remembered + own['gamma'], 1))
        radius = torch.where(robust, remembered, remembered - own['gamma'])
        radius = torch.where(above, remembered + own['gamma'], radius)
        radius = own['beta'] * torch.where(clean, radius, 0).clamp(min=0) + (1 - own['beta']) * remembered
        self.radius[HELD['rows']] = radius
        adversarial = attacked(radius, 2)
        return {'classifier': self.descend(F.cross_entropy(module(adversarial), labels), 'classifier')}


def resnet(sizes, work=Classification):
    return work(sizes, PreActResNet(*(sizes[k] for k in ('channels', 'classes', 'blocks', 'width', 'stem', 'mean', 'std'))))


def _embedding(sizes):
    module = GTAEmbedding(sizes['channels'], sizes['widths'], sizes['pool_last'])
    side = sizes['side']
    with torch.no_grad():
        features = module(torch.zeros(1, sizes['channels'], side, side)).shape[1]
    return module, MLP(features, *sizes['hidden'], sizes['classes']), features


class SourceOnly(Work):
    def __init__(self, sizes):
        embedding, classifier, _ = _embedding(sizes)
        super().__init__(sizes, {'embedding': embedding, 'classifier': classifier}, adam)

    def step(self, images, labels, draws):
        logits = self.modules['classifier'](self.modules['embedding'](images))
        loss = self.descend(F.cross_entropy(logits, labels), 'embedding', 'classifier')
        return {'embedding': loss}


class GenerateToAdapt(Work):
    """One step of all four players; G's and F's gradients come from one pass, before either is stepped."""

    def __init__(self, sizes):
        embedding, classifier, features = _embedding(sizes)
        stages = sizes['side'].bit_length() - 2
        inputs = sizes['classes'] + 1 + features + sizes['noise']
        modules = {
            'embedding': embedding,
            'classifier': classifier,
            'generator': GTAGenerator(inputs, sizes['channels'], sizes['generator_width'], stages),
            'discriminator': GTADiscriminator(sizes['channels'], sizes['classes'], sizes['discriminator_width'], stages),
        }
        super().__init__(sizes, modules, adam)

    def step(self, images, labels, draws):
        (s, t), own, bce = images.chunk(2), self.modules, F.binary_cross_entropy_with_logits
        y, classes = labels[: len(s)], self.sizes['classes']
        z = [self.noise(draws, i, (len(s), self.sizes['noise'])) for i in range(2)]
        last = torch.full_like(y, classes)
        f_s, f_t = own['embedding'](s), own['embedding'](t)
        x_s = own['generator'](torch.cat([F.one_hot(y, classes + 1), f_s, z[0]], 1))
        x_t = own['generator'](torch.cat([F.one_hot(last, classes + 1), f_t, z[1]], 1))
        d = own['discriminator']
        (p, q), (p_s, _), (p_t, _) = d(2 * s - 1), d(x_s.detach()), d(x_t.detach())
        one, zero = torch.ones_like(p), torch.zeros_like(p)
        loss_d = bce(p, one) + F.cross_entropy(q, y) + bce(p_s, zero) + bce(p_t, zero)
        losses = {'discriminator': self.descend(loss_d, 'discriminator')}
        d.requires_grad_(False)
        (p_s, q_s), (p_t, _) = d(x_s), d(x_t)
        class_s = F.cross_entropy(q_s, y)
        loss_g = class_s + bce(p_s, one)
        loss_c = F.cross_entropy(own['classifier'](f_s), y)
        loss_f = loss_c + self.sizes['class_weight'] * class_s + self.sizes['domain_weight'] * bce(p_t, one)
        parts = {'generator': loss_g, 'classifier': loss_c, 'embedding': loss_f}
        for number, (player, loss) in enumerate(parts.items()):
            parameters = list(own[player].parameters())
            gradients = torch.autograd.grad(loss, parameters, retain_graph=number < 2)
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = gradient
        for player, loss in parts.items():
            self.optimizers[player].step()
            losses[player] = loss.detach()
        d.requires_grad_(True)
        return losses


class GAN(Work):
    """The discriminator, then the generator on fakes of its own; 'non_saturating' or 'hinge'."""

    def __init__(self, sizes):
        side, channels, widths = sizes['side'], sizes['channels'], sizes['widths']
        if sizes['net'] == 'dcgan':
            decoder = DCGANDecoder(sizes['latent'], side, channels, widths)
            trunk, features = DCGANTrunk(channels, widths), (side >> len(widths)) ** 2 * widths[-1]
        else:
            decoder = ResNetDecoder(sizes['latent'], side, channels, widths)
            trunk, features = ResNetTrunk(channels, sizes['trunk_widths'], sizes['plain']), sizes['trunk_widths'][-1]
        modules = {'generator': decoder, 'discriminator': Headed(trunk, features, sizes['net'] != 'dcgan')}
        super().__init__(sizes, modules, adam)

    def step(self, images, labels, draws):
        own, shape, hinge = self.modules, (len(images), self.sizes['latent']), self.sizes['loss'] == 'hinge'
        with torch.no_grad():
            fake = own['generator'](self.noise(draws, 0, shape))
        if hinge:  # no batch statistics: one pass, and spectral normalisation is updated in place once, which compiles
            real_logits, fake_logits = own['discriminator'](torch.cat([images, fake])).chunk(2)
            loss = F.relu(1 - real_logits).mean() + F.relu(1 + fake_logits).mean()
        else:
            real_logits, fake_logits = own['discriminator'](images), own['discriminator'](fake)
            loss = F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()
        losses = {'discriminator': self.descend(loss, 'discriminator')}
        own['discriminator'].requires_grad_(False)
        logits = own['discriminator'](own['generator'](self.noise(draws, 1, shape)))
        losses['generator'] = self.descend(-logits.mean() if hinge else F.softplus(-logits).mean(), 'generator')
        own['discriminator'].requires_grad_(True)
        return losses


class Flow(Work):
    """Maximum likelihood of images with uniform dequantisation noise."""

    def __init__(self, sizes):
        super().__init__(sizes, {'flow': Glow(sizes['channels'], sizes['levels'], sizes['depth'], sizes['hidden'])}, adam)

    def step(self, images, labels, draws):
        noise = torch.rand_like(images) if draws is None else draws[0]
        latents, log_det = self.modules['flow']((255 * images + noise) / 256)
        dimensions = latents.shape[1]
        nll = 0.5 * latents.square().sum(1) + 0.5 * dimensions * math.log(2 * math.pi) - log_det
        return {'flow': self.descend(nll.mean() / dimensions, 'flow')}


WORKS = {
    'flow': Flow,
    'resnet': resnet,
    'iaat': partial(resnet, work=IAAT),
    'source_only': SourceOnly,
    'generate_to_adapt': GenerateToAdapt,
    'gan': GAN,
}


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
                work.modules[player].compile()
        HELD['works'][mode] = work
    return HELD['works'][mode]


def losses(mode: str, images, labels, draws, sizes) -> list[dict]:
    """The losses of steps on these float images in NHWC, with these draws, of new modules; sizes: of these steps alone."""
    HELD['works'].pop(mode, None)
    _tf32(False)
    work, images, labels = _work(mode), _nchw(images), tensor(labels).long().to(HELD['device'])
    found, HELD['rows'], work.sizes = [], torch.arange(len(images), device=HELD['device']), HELD['sizes'] | sizes
    for own in draws:
        own = [_nchw(d) if d.ndim == 4 else tensor(d).to(HELD['device']) for d in own]
        found.append({player: float(loss) for player, loss in work.step(images, labels, own).items()})
    work.sizes = HELD['sizes']
    return found


def _batch(mode: str):
    sizes, count = HELD['sizes'], len(HELD['images'])
    rows = HELD['rows'] = torch.randint(count, (sizes['rows'],), device=HELD['device'])
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
