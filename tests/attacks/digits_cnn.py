"""The small network whose robustness two implementations of AutoAttack must agree on, and what the authors' found.

files/digits_cnn.safetensors: SmallCNN of widths 8 and 16, hidden 32, without BatchNorm, trained on mnist5k by PGD of 3 steps
at eps 0.1 (1500 steps of 100 images, Adam, 2e-3 to zero by a cosine). files/digits_cnn_reference.npz: which of 500 test
images stood under each attack of pyautoattack 0.2.0 alone, at its standard settings (`standing`); written by

  python -m tests.attacks.digits_cnn        about ten minutes on an idle core
"""

import functools
from pathlib import Path

import numpy as np

FILES = Path(__file__).parent / 'files'
EPS = {'linf': 0.15, 'l2': 1.5}
NAMES = {  # ours and theirs
    'apgd_ce': 'apgd-ce',
    'apgd_dlr': 'apgd-dlr',
    'apgd_targeted': 'apgd-t',
    'fab_targeted': 'fab-t',
    'square': 'square',
}
SEEDS = 3


def params() -> dict:
    from safetensors.numpy import load_file

    nested = {}
    for name, array in load_file(FILES / 'digits_cnn.safetensors').items():
        layer, kind = name.split('/')
        nested.setdefault(layer, {})[kind] = array
    return nested


def network():
    """images [B, 28, 28, 1] -> logits [B, 10]."""
    from gjax.nets.small_cnn import SmallCNN

    net = SmallCNN(num_classes=10, widths=(8, 16), hidden=32, batch_norm=False)
    return functools.partial(net.apply, {'params': params()}, train=False)


def examples():
    """500 test images of mnist5k and their labels."""
    from gjax import data

    test = data.load('mnist5k').test
    rows = np.random.default_rng(0).permutation(1000)[:500]
    return test.images[rows].astype(np.float32) / 255, test.labels[rows].astype(np.int32)


def reference() -> dict:
    """{(norm, our name of the attack): standing bool [seeds, 500]}; FAB from the image itself has no seed."""
    with np.load(FILES / 'digits_cnn_reference.npz', allow_pickle=False) as file:
        return {tuple(key.split('/')): np.unpackbits(file[key], axis=1)[:, :500].astype(bool) for key in file}


def standing(name: str, norm: str, seed: int, count: int = 500) -> np.ndarray:
    """Which of the first `count` images stand under one attack of pyautoattack."""
    import pyautoattack
    import torch

    from tests.attacks.test_torchattacks import TorchNet

    images, labels = (array[:count] for array in examples())
    model = TorchNet(params()).eval()
    images, labels = torch.tensor(images).permute(0, 3, 1, 2).contiguous(), torch.tensor(labels, dtype=torch.long)
    options = {'norm': {'linf': 'Linf', 'l2': 'L2'}[norm], 'eps': EPS[norm], 'seed': seed}
    attack = pyautoattack.AutoAttack(model, version='standard', **options)  # one start of each attack
    attack.attacks_to_run = [NAMES[name]]
    found, _ = attack.run_standard_evaluation(images, labels, batch_size=count)
    with torch.no_grad():
        return (model(found).argmax(1) == labels).numpy()


def main() -> None:
    found = {}
    for norm in EPS:
        for name in NAMES:
            seeds = 1 if name == 'fab_targeted' else SEEDS
            found[f'{norm}/{name}'] = np.packbits([standing(name, norm, seed) for seed in range(seeds)], axis=1)
    np.savez_compressed(FILES / 'digits_cnn_reference.npz', **found)


if __name__ == '__main__':
    main()
