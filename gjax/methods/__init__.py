"""Methods by name: one module per paper, and the baselines that several papers share."""

import dataclasses
import difflib
import importlib

from gjax import nets
from gjax.methods.base import OPTIMIZER_DEFAULTS, DataInfo, Method, Stage, State, build_optimizer

_RESERVED = ('net', 'optimizer', 'info', 'evaluation', 'constant_optimizer')
METHODS = (
    'supervised',
    'adversarial_training',
    'trades',
    'interpolated_adversarial_training',
    'iaat',
    'autoencoder',
    'gan',
    'lottery_tickets',
    'early_bird',
    'source_only',
    'target_only',
    'dann',
    'adda',
    'dan',
    'coral',
    'mcd',
    'generate_to_adapt',
    'flow_robustness',
)

__all__ = ['METHODS', 'DataInfo', 'Method', 'Stage', 'State', 'build', 'defaults', 'domains']


def _options(section: str, given: dict, cls, reserved=()):
    fields = [f.name for f in dataclasses.fields(cls) if f.name not in reserved]
    for key, value in given.items():
        if key not in fields:
            near = difflib.get_close_matches(key, fields, 1)
            hint = f' (did you mean {near[0]}?)' if near else ''
            raise ValueError(f'{section}.{key} is {value!r}, but there is no such key{hint}; allowed: {", ".join(fields)}')
    return {key: tuple(value) if isinstance(value, list) else value for key, value in given.items()}


def _class(name):
    if name not in METHODS:
        near = difflib.get_close_matches(str(name), METHODS, 1)
        hint = f' (did you mean {near[0]}?)' if near else ''
        raise ValueError(f'method.name is {name!r}{hint}; allowed: {", ".join(METHODS)}')
    return importlib.import_module(f'gjax.methods.{name}').METHOD


def domains(name: str) -> tuple[str, ...]:
    """The domains that a method knows, e.g. ('source', 'target'); () of most. ValueError if there is no such method."""
    return getattr(_class(name), 'domains', ())


def defaults(config: dict) -> dict[str, dict]:
    """The default of every option of the config's method, network, optimiser and evaluation, by section."""

    def fields(cls, reserved=()):
        known = {f.name: f.default for f in dataclasses.fields(cls) if f.name not in reserved}
        return {key: value for key, value in known.items() if value is not dataclasses.MISSING}

    cls = _class(config['method']['name'])
    return {
        'method': fields(cls, _RESERVED),
        'net': nets.defaults(config['net']['name']),
        'optimizer': dict(OPTIMIZER_DEFAULTS),
        'evaluation': fields(cls.EVALUATION),
    }


def build(config, info: DataInfo) -> Method:
    """The method of `config` for data with these facts.

    Args:
      config: a mapping (ConfigDict or dict) with sections method (with 'name'), net (with 'name'), optimizer, evaluation.
      info: facts about the data.

    Raises:
      ValueError: unknown name or key, value out of range; one line that says what is allowed.
    """
    config = config.to_dict() if hasattr(config, 'to_dict') else dict(config)
    options = dict(config['method'])
    name = options.pop('name')
    cls = _class(name)
    if config['net']['name'] not in cls.NETS:
        raise ValueError(f'net.name is {config["net"]["name"]!r}; allowed for {name}: {", ".join(cls.NETS)}')
    evaluation, optimizer, more = cls.EVALUATION, config['optimizer'], {}
    if 'constant_optimizer' in cls.__dataclass_fields__:
        more['constant_optimizer'] = build_optimizer({**optimizer, 'schedule': 'constant', 'warmup_epochs': 0.0}, info)
    return cls(
        net=nets.build(num_classes=info.num_classes, image_shape=info.image_shape, **config['net']),
        optimizer=build_optimizer(optimizer, info),
        info=info,
        evaluation=evaluation(**_options('evaluation', config['evaluation'], evaluation)),
        **_options('method', options, cls, _RESERVED),
        **more,
    )
