"""Experiment configs: loading FILE:ARG, overriding keys from the command line, completing and checking."""

import ast
import difflib
import importlib.util
import json
import os
import re
import sys
import traceback
from pathlib import Path

import ml_collections

import gjax
from gjax.methods import defaults, find
from gjax.train.errors import ConfigError, RunError
from gjax.train.values import SPANS, UNITS, check_seed, parse, plain

FORMAT = 2  # of config.json and run.json


def base_config() -> ml_collections.ConfigDict:
    """The engine's own keys with their defaults; an experiment adds method, net, optimizer and evaluation.

    Durations come as *_steps, *_epochs or *_examples; the first of steps, examples, epochs that is not 0 counts.
    """
    config = ml_collections.ConfigDict()
    config.experiment = ''
    config.seed = 0
    config.stage = ''  # of a method in several stages: the one to run; default all
    config.data = ml_collections.ConfigDict(
        {
            'name': 'digits',  # digits | mnist5k | mnistm5k | syndigits | npz:PATH | folder:PATH | a TFDS name
            # Several sets to train on together, named as `name`, which they replace. A `*` in the last part of a name stands
            # for all that fit: folder:PATH/* for the domains of a folder.
            'sources': (),
            'dir': '',  # where prepared TFDS sets lie; default: the variable TFDS_DATA_DIR
            'target': '',  # of methods that adapt to another domain: the set of that domain, named as `name`
            # Sets of other domains, never trained on, that every evaluation measures too. A source that is named here, or as
            # the target, is no source then.
            'unseen': (),
            # Share of the training examples that is held out for validation, drawn by the seed, of every class alike, where
            # a set comes without a validation split; 0: none.
            'validation': 0.1,
            'examples': 0,  # train on so many of each source, drawn by the seed; 0: all
            'target_examples': 0,  # the same of the target
            # The classes in the order of their labels: names those of sets with numbers, orders those of sets with names.
            'class_names': (),
            'image_size': 0,  # resize to this side; 0 keeps what the set has
            'channels': 0,  # 3: grey images repeated; 1: the luma of coloured ones; 0 keeps what the set has
            'streaming': False,  # decode while training instead of holding the set on the devices
            'workers': 0,  # streaming: processes that decode, in every process of the run; 0: threads
            'padding': 0,  # random crop after padding by this many pixels
            'padding_mode': 'reflect',  # reflect | edge | constant
            'flip': False,  # mirror left to right with probability 1/2
        }
    )
    config.train = ml_collections.ConfigDict(
        {
            'batch_size': 128,  # over all devices together
            'eval_batch_size': 512,
            'steps_per_call': 50,  # training steps inside one compiled call; at most one epoch
            **{f'{name}_{unit}': 0 for name in SPANS for unit in UNITS},
        }
    )
    config.method = ml_collections.ConfigDict({'name': 'supervised'})
    config.net = ml_collections.ConfigDict({'name': 'small_cnn'})
    config.optimizer = ml_collections.ConfigDict({'name': 'sgd', 'learning_rate': 0.1})
    config.evaluation = ml_collections.ConfigDict()
    return config


def duration(section, name: str, steps_per_epoch: int, batch_size: int) -> int:
    """Steps of `name` ('total', 'eval_every', ...) in a config section, from its _steps, _examples or _epochs key."""
    scale = {'steps': 1.0, 'examples': 1.0 / batch_size, 'epochs': float(steps_per_epoch)}
    for unit in UNITS:
        value = section[f'{name}_{unit}']
        if value < 0:
            raise ConfigError(f'train.{name}_{unit} is {value}; allowed: >= 0')
        if value:
            return max(1, round(value * scale[unit]))
    return 0


def in_epochs(section) -> str:
    """The first duration of a config's section `train` that counts in epochs, e.g. 'total_epochs'; '' if none does."""
    for name in SPANS:
        if section[f'{name}_epochs'] and not (section[f'{name}_steps'] or section[f'{name}_examples']):
            return f'{name}_epochs'
    return ''


def experiments_dir() -> Path:
    """The folder of experiments: beside the package in a checkout, inside it in a wheel."""
    package = Path(gjax.__file__).parent
    for candidate in (package.parent / 'experiments', package / 'experiments'):
        if candidate.is_dir():
            return candidate
    raise RunError(f'no experiments folder beside {package}; reinstall gjax')


def load_module(path: Path):
    """The Python file at `path` as a module. Config files are code: run only those you trust."""
    name = 'gjax_experiment_' + '_'.join(path.with_suffix('').parts[-2:])
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def sibling(file: str, name: str) -> Path:
    """The file `name` beside `file`: how one config builds on another."""
    return Path(file).parent / name


def shipped_files() -> list[Path]:
    """The config files in experiments/, sorted: those that define `get_config`."""

    def is_config(path):
        body = ast.parse(path.read_text(encoding='utf-8')).body
        return any(isinstance(node, ast.FunctionDef) and node.name == 'get_config' for node in body)

    return sorted(path for path in experiments_dir().glob('*/*.py') if is_config(path))


def _find(file: str) -> Path:
    path = Path(os.path.expanduser(file))
    shipped = experiments_dir() / file.removeprefix('experiments/')
    for candidate in (path, shipped):
        if candidate.suffix == '.py' and candidate.is_file():
            return candidate
    known = ', '.join(path.relative_to(experiments_dir().parent).as_posix() for path in shipped_files())
    raise ConfigError(f'--config is {file!r}, but there is no such file; shipped: {known}')


def _unknown(key: str, part: str, section) -> ConfigError:
    known = sorted(section.keys())
    near = difflib.get_close_matches(part, known, 1)
    prefix = key[: key.rindex(part)] if part in key else ''
    hint = f'did you mean config.{prefix}{near[0]}?' if near else f'known here: {", ".join(known)}'
    return ConfigError(f'there is no config.{key}; {hint}')


def override(config, overrides: dict) -> None:
    """Sets dotted keys, e.g. {'train.batch_size': '64'}; strings are parsed to the type of the old value.

    Raises:
      ConfigError: unknown key (with the nearest known one) or a value of another type.
    """
    for key, text in overrides.items():
        section = config
        parts = key.split('.')
        for i, part in enumerate(parts):
            if not isinstance(section, ml_collections.ConfigDict) or part not in section:
                holder = section if isinstance(section, ml_collections.ConfigDict) else config
                raise _unknown(key, part, holder)
            if i == len(parts) - 1:
                if isinstance(section[part], ml_collections.ConfigDict):
                    raise ConfigError(f'config.{key} is a section; set one of its keys: {", ".join(section[part].keys())}')
                value = parse(key, text, section[part])
                with section.ignore_type():
                    section[part] = value
            section = section[part]


def complete(config) -> None:
    """Adds every option of the method, the network and the evaluation at its default, so that each can be overridden."""
    for section, values in defaults(config.to_dict()).items():
        for key, value in values.items():
            if key not in config[section]:
                config[section][key] = value


def load(spec: str, overrides: dict | None = None) -> ml_collections.ConfigDict:
    """The locked config of 'FILE' or 'FILE:ARG' with overrides applied.

    Args:
      spec: a Python file with `get_config(arg)`, absolute, relative to the working directory, or shipped with gjax.
      overrides: dotted keys to values or command-line strings; another net.name starts from that network's defaults.

    Raises:
      ConfigError: no such file, argument, key, or a value of the wrong type.
    """
    overrides = dict(overrides or {})
    file, _, arg = spec.partition(':')
    path = _find(file)
    try:
        module = load_module(path)
    except Exception as error:
        raise ConfigError(f'--config={spec}: {path} does not run: {type(error).__name__}: {error}') from error
    if not hasattr(module, 'get_config'):
        raise ConfigError(f'--config is {file!r}, which defines no get_config')
    try:
        config = module.get_config(arg) if arg else module.get_config()
    except RunError:
        raise
    except Exception as error:
        raise ConfigError(f'--config={spec}: {_reason(error, path)}') from error
    try:
        if (method := overrides.get('method.name', config.method.name)) != config.method.name:
            defaults({**config.to_dict(), 'method': {'name': method}})  # refuses an unknown name
            raise ValueError(
                f'method.name is {config.method.name!r} and comes with its options; choose by --config={file}:METHOD'
            )
        net = overrides.get('net.name', config.net.name)
        if net != config.net.name:  # the options of one network mean nothing to another
            config.net = ml_collections.ConfigDict({'name': net})
        complete(config)
    except (ValueError, TypeError) as error:
        raise ConfigError(f'--config={spec}: {error}') from error
    _check_keys(config, spec)
    _make_plain(config)
    config.lock()
    override(config, overrides)
    check_seed(config.seed)
    return config


def _check_keys(config, spec: str) -> None:
    """ConfigError if a config file has set a key that nothing reads: its sections take any name."""
    known = base_config()
    for section in ('method', 'net'):
        known[section] = ml_collections.ConfigDict({'name': config[section].name})
    complete(known)
    for key in flatten(config.to_dict()):
        holder = known
        for part in key.split('.'):
            if not isinstance(holder, ml_collections.ConfigDict) or part not in holder:
                raise ConfigError(f'--config={spec}: {_unknown(key, part, holder)}')
            holder = holder[part]


# How ml_collections refuses a value that is not of the type of the old one.
_OTHER_TYPE = re.compile(
    r"field '(.+?)'.*?\. (.*) is of original type <class '(.+?)'> .* to type <class '(.+?)'>", re.DOTALL
)


def _reason(error: Exception, path: Path) -> str:
    """Why the config file at `path` has raised this error, on one line; its own refusals, ValueErrors, as they are."""
    if isinstance(error, ValueError):
        return str(error)
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    where = f'line {lines[-1]}: ' if lines else ''
    if isinstance(error, TypeError) and (found := _OTHER_TYPE.search(str(error))):
        key, value, kind, needed = found.groups()
        such = f', such as {needed}({value})' if kind.startswith('numpy.') and needed in ('int', 'float', 'bool') else ''
        return f'{where}{key} is {value:.60}, of type {kind}; allowed: a value of type {needed}{such}'
    text = error.args[0] if error.args else ''
    text = text.args[0] if isinstance(text, KeyError) and text.args else text  # ml_collections' of an unknown key
    return f'{where}{type(error).__name__}: {" ".join(str(text).split())[:300]}'


def _make_plain(config) -> None:
    """Rewrites the values that a config file gives as `values.plain` has them."""
    for key, value in flatten(config.to_dict()).items():
        *sections, last = key.split('.')
        section = config
        for name in sections:
            section = section[name]
        with section.ignore_type():
            section[last] = plain(key, value)


def to_json(config) -> str:
    """The config as stable JSON text, with the number of its format."""
    return json.dumps({'format': FORMAT, **config.to_dict()}, indent=2, sort_keys=True) + '\n'


# Keys that configs of format 1 lacked, at the values that stand for their absence.
_LATER_KEYS = {
    'data.sources': (),
    'data.unseen': (),
    'data.validation': 0.0,
    'data.class_names': (),
    'optimizer.rho': 0.9,
    'method.clip_start': True,
    'evaluation.targets': 9,
    'evaluation.target_steps': 30,
    'evaluation.warnings': True,
    'net.weights': '',
    'optimizer.power': 1.0,
}


def identity(config) -> str:
    """The config as text that stays the same when gjax learns new keys: what names an extractor.

    It is what format 1 would have written, plus later keys that are not at the values which stand for their absence.
    """
    values = config.to_dict()
    for key, absent in _LATER_KEYS.items():
        section, name = key.split('.')
        if values[section].get(name) == absent:
            values[section].pop(name, None)
    return json.dumps(values, indent=2, sort_keys=True) + '\n'


def copy(config) -> ml_collections.ConfigDict:
    """A locked config of the same values."""
    return from_json(to_json(config))


def _of_today(values: dict) -> dict:
    """The values of a config.json of any format, as this one has them.

    Format 1, which carried no number, had no validation split, and named a stage's part in a pipeline among the options of
    the method ('trained', 'phase'), where `stage` says it too.

    Raises:
      ConfigError: a format of a later gjax, or none.
    """
    values = dict(values)
    number = values.pop('format', 1)
    if type(number) is not int or not 1 <= number <= FORMAT:
        raise ConfigError(f'its format is {number!r}; this gjax reads formats 1 to {FORMAT}')
    if number == 1:
        values.setdefault('stage', '')  # older still
        if isinstance(values.get('data'), dict):
            values['data'] = {'validation': 0.0, **values['data']}
        if isinstance(values.get('method'), dict):
            values['method'] = {k: v for k, v in values['method'].items() if k not in ('trained', 'phase')}
    return values


def from_json(text: str) -> ml_collections.ConfigDict:
    """The config written by `to_json`, with every key and type checked; sequences come back as tuples.

    Raises:
      ConfigError: an unknown key or name, or a value of another type.
      ValueError: the text is not JSON.
    """
    values = _tuples(json.loads(text))
    config = base_config()
    if isinstance(values, dict):
        values = _of_today(values)
    if not isinstance(values, dict) or set(values) != set(config.keys()):
        raise ConfigError(f'a config holds the keys {", ".join(sorted(config.keys()))}')
    for section in ('method', 'net', 'optimizer', 'evaluation'):
        if not isinstance(values[section], dict) or (section in ('method', 'net') and 'name' not in values[section]):
            raise ConfigError(f'config.{section} is {values[section]!r:.80}; allowed: a section with its name and options')
    for section in ('method', 'net'):
        config[section] = ml_collections.ConfigDict({'name': values[section]['name']})
    try:
        complete(config)
        older = find(values['method']['name']).older(values)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    override(config, {**older, **flatten(values)})
    return config.lock()


def _tuples(value):
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def read(file: Path) -> ml_collections.ConfigDict:
    """The config in a run directory's config.json; ConfigError names the file if it is damaged."""
    try:
        return from_json(file.read_text(encoding='utf-8'))
    except ConfigError as error:  # whole, but of another gjax, or edited
        reason = ' '.join(str(error).split())[:300]
        raise ConfigError(f'{file} does not fit this gjax: {reason}{_registering(reason)}') from error
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f'{file} is damaged: {" ".join(str(error).split())[:300]}') from error


def _registering(reason: str) -> str:
    """What to do about a name that may be registered by a config file."""
    return (
        '; if a config file registers it, name that by --config'
        if reason.startswith(('method.name is', 'net.name is'))
        else ''
    )


def flatten(mapping: dict, prefix: str = '') -> dict:
    """Nested dicts as one dict of dotted keys."""
    flat = {}
    for key, value in mapping.items():
        flat |= flatten(value, f'{prefix}{key}.') if isinstance(value, dict) else {f'{prefix}{key}': value}
    return flat
