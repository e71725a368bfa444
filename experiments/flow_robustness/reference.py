"""Bits per dimension of GLOW by a second implementation, normflows (Stimper et al. 2023, arXiv:2302.12014) on PyTorch: the
network, data, noise, optimiser and duration of digits.py:clean, trained by that library's own code.

  pip install torch normflows
  python -m experiments.flow_robustness.reference --seeds=0,1,2

Convolutions begin as in GLOW's released code and in ours (normal, 0.05); with `--library_init` as that library has them, by
PyTorch's default.
Differs from `gjax.nets.glow` in the priors (learned Gaussians, of what leaves early too, that do not depend on the rest) and
in log-scales (exp without a bound, and no learned factor of the last convolutions).
"""

import argparse
import math
from pathlib import Path

import numpy as np

from gjax import data
from gjax.losses import bits_per_dim
from gjax.train.config import load_module


def build(normflows, image_shape, levels: int, depth: int, hidden: int, library_init: bool):
    """normflows' GLOW of the sizes of `gjax.nets.glow.Glow` for images [H, W, C]."""
    import torch

    height, width, channels = image_shape
    bases, flows, merges = [], [], []
    for level in reversed(range(levels)):  # from the latents to the image
        width_here = channels * 2 ** (level + 2)  # after the squeeze of this level
        steps = [normflows.flows.GlowBlock(width_here, hidden, scale_map='exp', net_actnorm=True) for _ in range(depth)]
        flows.append([*steps, normflows.flows.Squeeze()])
        left = width_here if level == levels - 1 else width_here // 2
        bases.append(normflows.distributions.DiagGaussian((left, height // 2 ** (level + 1), width // 2 ** (level + 1))))
        if level < levels - 1:
            merges.append(normflows.flows.Merge())
    flow = normflows.MultiscaleFlow(bases, flows, merges, class_cond=False)
    for module in () if library_init else flow.modules():
        if isinstance(module, torch.nn.Conv2d) and module.weight.any():  # not the last ones, which begin at zero
            torch.nn.init.normal_(module.weight, 0, 0.05)
    return flow


def train(config, seed: int, library_init: bool = False) -> float:
    """Mean bits per dimension of the test images after training as the config says."""
    import normflows
    import torch

    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    dataset = data.from_config(config.data.to_dict(), seed)
    train_images, test_images = (
        np.asarray(part.read(np.arange(len(part))).images) for part in (dataset.train, dataset.test)
    )
    sizes = {name: config.net[name] for name in ('levels', 'depth', 'hidden')}
    flow = build(normflows, dataset.image_shape, **sizes, library_init=library_init)
    dimensions, batch_size = train_images[0].size, config.train.batch_size
    steps_per_epoch = len(train_images) // batch_size
    total = round(config.train.total_epochs * steps_per_epoch)
    warmup = config.optimizer.warmup_epochs * steps_per_epoch
    optimizer = torch.optim.Adam(flow.parameters(), lr=config.optimizer.learning_rate)

    def rate(step):
        return step / warmup if step < warmup else 0.5 + 0.5 * math.cos(math.pi * (step - warmup) / max(total - warmup, 1))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)

    def dequantised(images):
        images = torch.from_numpy(images.astype(np.float32)).permute(0, 3, 1, 2)
        return (images + torch.rand(images.shape)) / 256

    with torch.no_grad():  # its actnorm takes its first batch; as many images as gjax takes
        flow.forward_kld(dequantised(train_images[rng.permutation(len(train_images))[:256]]))
    order = np.empty(0, int)
    for step in range(total):
        if step % steps_per_epoch == 0:
            order = rng.permutation(len(train_images))
        start = step % steps_per_epoch * batch_size
        loss = flow.forward_kld(dequantised(train_images[order[start : start + batch_size]])) / dimensions
        optimizer.zero_grad()
        loss.backward()
        if config.optimizer.clip_norm:
            torch.nn.utils.clip_grad_norm_(flow.parameters(), config.optimizer.clip_norm)
        optimizer.step()
        schedule.step()
    flow.eval()
    with torch.no_grad():
        parts = np.array_split(test_images, max(1, len(test_images) // config.train.eval_batch_size))
        nll = torch.cat([-flow.log_prob(dequantised(part), None) for part in parts])
    return float(bits_per_dim(nll.mean().item(), dimensions))


def main(argv=None):
    parser = argparse.ArgumentParser(description='Bits per dimension of GLOW by normflows.')
    parser.add_argument('--seeds', default='0,1,2')
    parser.add_argument('--library_init', action='store_true', help="normflows' own initialisation")
    arguments = parser.parse_args(argv)
    seeds = [int(seed) for seed in arguments.seeds.split(',')]
    config = load_module(Path(__file__).with_name('digits.py')).get_config('clean,glow')
    found = []
    for seed in seeds:
        found.append(train(config, seed, arguments.library_init))
        print(f'seed {seed}: {found[-1]:.3f} bits per dimension', flush=True)
    print(f'mean {np.mean(found):.3f} ± {np.std(found, ddof=1) if len(found) > 1 else 0:.3f}')


if __name__ == '__main__':
    main()
