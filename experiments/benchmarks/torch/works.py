"""Training steps and attacks as a good PyTorch user would write them: the works of the suites `steps` and `attacks`."""

import math
from functools import partial

import torch
import torch.nn.functional as F

from experiments.benchmarks.torch.flow import Glow
from experiments.benchmarks.torch.nets import (
    MLP,
    DCGANDecoder,
    DCGANTrunk,
    GTADiscriminator,
    GTAEmbedding,
    GTAGenerator,
    Headed,
    IAATResNet,
    PreActResNet,
    ResNetDecoder,
    ResNetTrunk,
    SmallCNN,
)


def adam(module, options):
    return torch.optim.Adam(module.parameters(), lr=options['rate'], betas=(options['b1'], options['b2']), fused=True)


def sgd(module, options):
    return torch.optim.SGD(
        module.parameters(), lr=options['rate'], momentum=options['momentum'], weight_decay=options['decay'], fused=True
    )


class Work:
    """modules: by player. step(images, labels, draws) trains one step and gives the losses by player; draws: the random
    numbers that gjax has drawn, or None for torch's own. rows: the images' places in the training set."""

    rows: torch.Tensor

    def __init__(self, sizes: dict, modules: dict, optimizer):
        self.sizes, self.modules = sizes, modules
        self.device = next(parameter.device for module in modules.values() for parameter in module.parameters())
        self.optimizers = {player: optimizer(module, sizes['optimizer']) for player, module in modules.items()}

    def noise(self, draws, number, shape):
        return torch.randn(shape, device=self.device) if draws is None else draws[number]

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
        self.radius = torch.full((sizes['count'],), sizes['eps'])

    def step(self, images, labels, draws):
        own, module, remembered = self.sizes, self.modules['classifier'], self.radius[self.rows]

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
        self.radius[self.rows] = radius
        adversarial = attacked(radius, 2)
        return {'classifier': self.descend(F.cross_entropy(module(adversarial), labels), 'classifier')}


def resnet(sizes, work=Classification):
    network = IAATResNet if sizes.get('net') == 'iaat_wide_resnet' else PreActResNet
    return work(sizes, network(*(sizes[k] for k in ('channels', 'classes', 'blocks', 'width', 'stem', 'mean', 'std'))))


def small_cnn(sizes):
    return Classification(sizes, SmallCNN(*(sizes[k] for k in ('channels', 'classes', 'side', 'widths', 'hidden'))))


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
        if self.sizes['net'] != 'dcgan':  # no batch statistics: one pass, whose one update of spectral norms compiles
            real_logits, fake_logits = own['discriminator'](torch.cat([images, fake])).chunk(2)
        else:
            real_logits, fake_logits = own['discriminator'](images), own['discriminator'](fake)
        if hinge:
            loss = F.relu(1 - real_logits).mean() + F.relu(1 + fake_logits).mean()
        else:
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
    'small_cnn': small_cnn,
    'iaat': partial(resnet, work=IAAT),
    'source_only': SourceOnly,
    'generate_to_adapt': GenerateToAdapt,
    'gan': GAN,
}
