"""Methods by name: the ten papers, one module each, and under `baselines` what they compare with; see gjax/README.md."""

import dataclasses
import difflib
import importlib

from gjax import nets
from gjax.methods.core.contract import DataInfo, Field, Method, Role, Sets, Stage, State
from gjax.methods.core.optimisers import OPTIMIZER_DEFAULTS, build_optimizer, checked_spec

PAPERS = ('iaat', 'lottery_tickets', 'flow_robustness', 'generate_to_adapt', 'dmg')
BASELINES = (
    'supervised',
    'adversarial_training',
    'trades',
    'interpolated_adversarial_training',
    'autoencoder',
    'gan',
    'early_bird',
    'source_only',
    'target_only',
    'adabn',
    'dann',
    'adda',
    'dan',
    'coral',
    'mcd',
    'aggregate',
    'multi_head',
)
METHODS = (*PAPERS, *BASELINES)
_GIVEN = ('net', 'optimizer', 'info', 'evaluation')

__all__ = [
    'METHODS',
    'DataInfo',
    'Field',
    'Method',
    'Role',
    'Sets',
    'Stage',
    'State',
    'build',
    'build_optimizer',
    'check',
    'defaults',
    'find',
    'register',
]

_registered: dict[str, type[Method]] = {}


def register(name: str, cls: type[Method]) -> None:
    """Makes a method of your own known by name, as if it were a module here."""
    _registered[name] = cls


def find(name: str) -> type[Method]:
    """The class of the method `name`; ValueError, with the nearest known name, if there is none."""
    known = (*METHODS, *_registered)
    if name in _registered:
        return _registered[name]
    if name not in METHODS:
        near = difflib.get_close_matches(str(name), known, 1)
        hint = f' (did you mean {near[0]}?)' if near else ''
        raise ValueError(f'method.name is {name!r}{hint}; allowed: {", ".join(known)}')
    package = 'gjax.methods' if name in PAPERS else 'gjax.methods.baselines'
    return importlib.import_module(f'{package}.{name}').METHOD


def _options(section: str, given: dict, cls, reserved=()) -> dict:
    """The options of a section as arguments of `cls`; ValueError for one that it does not have."""
    fields = [f.name for f in dataclasses.fields(cls) if f.name not in reserved]
    for key, value in given.items():
        if key not in fields:
            near = difflib.get_close_matches(key, fields, 1)
            hint = f' (did you mean {near[0]}?)' if near else ''
            raise ValueError(f'{section}.{key} is {value!r}, but there is no such key{hint}; allowed: {", ".join(fields)}')
    return {key: tuple(value) if isinstance(value, list) else value for key, value in given.items()}


def defaults(config: dict) -> dict[str, dict]:
    """The default of every option of the config's method, network, optimiser and evaluation, by section."""

    def fields(cls, reserved=()):
        known = {f.name: f.default for f in dataclasses.fields(cls) if f.name not in reserved}
        return {key: value for key, value in known.items() if value is not dataclasses.MISSING}

    cls = find(config['method']['name'])
    return {
        'method': fields(cls, (*_GIVEN, *cls.GIVEN)),
        'net': nets.defaults(config['net']['name']),
        'optimizer': dict(OPTIMIZER_DEFAULTS),
        'evaluation': fields(cls.EVALUATION),
    }


def _parts(config):
    """(class, plain config, options of the method, evaluation) of a config, all names and options checked."""
    config = config.to_dict() if hasattr(config, 'to_dict') else dict(config)
    options = dict(config['method'])
    name = options.pop('name')
    cls = find(name)
    if config['net']['name'] not in cls.NETS:
        raise ValueError(f'net.name is {config["net"]["name"]!r}; allowed for {name}: {", ".join(cls.NETS)}')
    checked_spec(config['optimizer'])
    evaluation = cls.EVALUATION(**_options('evaluation', config['evaluation'], cls.EVALUATION))
    return cls, config, _options('method', options, cls, (*_GIVEN, *cls.GIVEN)), evaluation


def check(config) -> type[Method]:
    """The class of a config's method, every option checked that can be without the data.

    Raises:
      ValueError: unknown name or key, value out of range; one line that says what is allowed.
    """
    cls, config, options, evaluation = _parts(config)
    nets.check(**config['net'])
    cls(net=None, optimizer=None, info=None, evaluation=evaluation, **options)
    return cls


def build(config, info: DataInfo) -> Method:
    """The method of `config` for data with these facts.

    Args:
      config: a mapping (ConfigDict or dict) with sections method (with 'name'), net (with 'name'), optimizer, evaluation.
      info: facts about the data.

    Raises:
      ValueError: as `check`, or the options do not suit the data; one line that says what is allowed.
    """
    cls, config, options, evaluation = _parts(config)
    method = cls(
        net=nets.build(num_classes=info.num_classes, image_shape=info.image_shape, **config['net']),
        info=info,
        evaluation=evaluation,
        **cls.optimizers(config['optimizer'], info),
        **options,
    )
    method.fits()
    return method
