"""gjax: ten papers on generative models, robustness and domain adaptation on one JAX engine.

Importing this package imports nothing heavy and starts no JAX backend: sub-packages load when first touched.
"""

import importlib

__version__ = '0.1.0'

_PACKAGES = ('attacks', 'data', 'evaluators', 'losses', 'masks', 'methods', 'metrics', 'nets', 'study', 'train')


def __getattr__(name):
    if name in _PACKAGES:
        return importlib.import_module(f'gjax.{name}')
    if name == 'train_and_evaluate':
        return importlib.import_module('gjax.train.loop').train_and_evaluate
    raise AttributeError(f'module gjax has no attribute {name!r}')


def __dir__():
    return sorted([*globals(), *_PACKAGES, 'train_and_evaluate'])
