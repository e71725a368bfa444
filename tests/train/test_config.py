"""Configs: arguments, overrides in the right type, and the one line for every mistake."""

import pytest

from gjax import methods
from gjax.train import config as configs
from gjax.train.errors import RunError
from gjax.train.loop import train_and_evaluate

FILE = 'iaat/digits.py'


def test_argument_and_overrides():
    config = configs.load(f'{FILE}:trades', {'method.lam': '3', 'train.batch_size': '50', 'data.flip': 'true'})
    assert config.method.name == 'trades'
    assert config.method.lam == 3.0
    assert isinstance(config.method.lam, float)
    assert config.train.batch_size == 50
    assert config.data.flip is True
    assert configs.load(FILE).method.name == 'iaat'


def test_another_network_brings_its_own_options():
    config = configs.load(FILE, {'net.name': 'wide_resnet', 'net.depth': '16'})
    assert (config.net.name, config.net.depth) == ('wide_resnet', 16)
    assert 'widths' not in config.net


def test_tuples_and_durations():
    config = configs.load(FILE, {'net.widths': '(4, 8)', 'evaluation.curve': '[0.1, 0.2]', 'train.total_epochs': '0.5'})
    assert config.net.widths == (4, 8)
    assert config.evaluation.curve == (0.1, 0.2)
    assert configs.duration(config.train, 'total', steps_per_epoch=40, batch_size=100) == 20


@pytest.mark.parametrize(
    ('file', 'key'),
    [(FILE, 'evaluation.eps'), (FILE, 'method.eps'), (FILE, 'method.eps_max'), (f'{FILE}:trades', 'method.eps')],
)
def test_a_radius_that_was_meant_in_255ths_is_refused(file, key):
    config = configs.load(file, {key: '8'})
    with pytest.raises(ValueError, match=rf'^{key} is 8; allowed for linf: 0\.\.1, the width of the bounds \(8/255\?\)$'):
        methods.check(config)


def test_steps_win_over_examples_over_epochs():
    section = {'total_steps': 0, 'total_examples': 640, 'total_epochs': 9}
    assert configs.duration(section, 'total', 10, 64) == 10
    assert configs.duration(section | {'total_steps': 3}, 'total', 10, 64) == 3
    assert configs.duration(section | {'total_examples': 0}, 'total', 10, 64) == 90


def test_json_round_trip():
    config = configs.load(FILE)
    again = configs.from_json(configs.to_json(config))
    assert again.to_dict() == config.to_dict()
    assert again.is_locked


@pytest.mark.parametrize(
    ('spec', 'overrides', 'message'),
    [
        ('nowhere.py', {}, "'nowhere.py', but there is no such file; shipped: experiments/"),
        (f'{FILE}:iat', {}, "the argument is 'iat'; allowed: supervised"),
        (FILE, {'method.gama': '1'}, r'no config.method.gama; did you mean config.method.gamma\?'),
        (FILE, {'traim.batch_size': '1'}, r'no config.traim.batch_size; did you mean config.train\?'),
        (FILE, {'seed.x': '1'}, 'no config.seed.x'),
        (FILE, {'train.batch_size': 'many'}, "config.train.batch_size is 'many'; allowed: a value of type int"),
        (FILE, {'train.batch_size': '1.5'}, 'allowed: a value of type int'),
        (FILE, {'data.flip': 'maybe'}, 'allowed: a value of type bool'),
        (FILE, {'net.widths': "('a', 8)"}, r'config.net.widths is .*; allowed: a tuple of int, like \(16, 32, 64\)'),
        (FILE, {'net.widths': '(8.5,)'}, 'allowed: a tuple of int'),
        (FILE, {'optimizer.milestones': '((1,),)'}, 'allowed: a tuple'),
        (FILE, {'net.widths': '8'}, 'allowed: a value of type tuple'),
        (
            FILE,
            {'method.name': 'trades'},
            r"method.name is 'iaat' and comes with its options; choose by --config=iaat/digits",
        ),
        (FILE, {'method.name': 'iat'}, r"method.name is 'iat' \(did you mean iaat\?\)"),
        (FILE, {'method.eps': '1e999'}, 'config.method.eps is .*; allowed: finite numbers'),
        (FILE, {'train.total_steps': '1e999'}, 'config.train.total_steps is .*; allowed: finite numbers'),
        (FILE, {'net.name': 'vgg'}, "net.name is 'vgg'; allowed: small_cnn"),
        (FILE, {'net.name': 'wide_resnet', 'net.hidden': '8'}, 'no config.net.hidden'),
        (FILE, {'seed': '-1'}, 'config.seed is -1; allowed: 0..4294967295'),
        (FILE, {'seed': str(2**32)}, 'config.seed is 4294967296; allowed: 0..4294967295'),
        (FILE, {'net': 'x'}, 'config.net is a section; set one of its keys'),
    ],
)
def test_mistakes(spec, overrides, message):
    with pytest.raises(configs.ConfigError, match=message) as caught:
        configs.load(spec, overrides)
    assert '\n' not in str(caught.value)


def test_a_config_file_that_fails_is_one_line(tmp_path):
    (tmp_path / 'broken.py').write_text('x = 1 / 0\n')
    with pytest.raises(configs.ConfigError, match=r'broken\.py does not run: ZeroDivisionError: division by zero'):
        configs.load(str(tmp_path / 'broken.py'))


def test_the_largest_seed_is_taken_and_a_larger_one_begins_no_run(tmp_path):
    config = configs.load(FILE, {'seed': str(2**32 - 1)})
    configs.override(config, {'seed': 2**32})
    with pytest.raises(RunError, match=r'config\.seed is 4294967296'):
        train_and_evaluate(config, tmp_path / 'run')
    assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize(
    ('statement', 'message'),
    [
        (
            'config.train.batch_size = np.int64(3)',
            'batch_size is 3, of type numpy.int64; allowed: a value of type int, such as int(3)',
        ),
        (
            'config.optimizer.learning_rate = np.float32(0.5)',
            'learning_rate is 0.5, of type numpy.float32; allowed: a value of type float, such as float(0.5)',
        ),
        (
            'config.data.flip = np.bool_(True)',
            'flip is True, of type numpy.bool; allowed: a value of type bool, such as bool(True)',
        ),
        ("config.train.batch_size = 'many'", 'batch_size is many, of type str; allowed: a value of type int'),
        ('config.trian.batch_size = 3', 'AttributeError: \'trian\' Did you mean "train" instead of "trian"?'),
    ],
)
def test_what_a_config_file_cannot_set_is_one_line_with_its_number(tmp_path, statement, message):
    assert _refused(tmp_path, statement) == f'--config={tmp_path}/mine.py: line 5: {message}'


def _refused(folder, statement) -> str:
    """What `load` says of a config file with this statement, its fifth line."""
    text = 'import numpy as np\nfrom gjax.train.config import base_config\ndef get_config():\n    config = base_config()\n'
    (folder / 'mine.py').write_text(f'{text}    {statement}\n    return config\n', encoding='utf-8')
    with pytest.raises(configs.ConfigError) as caught:
        configs.load(str(folder / 'mine.py'))
    return str(caught.value)


@pytest.mark.parametrize(
    ('statement', 'message'),
    [
        ('train.batch_sizee = 3', 'train.batch_sizee; did you mean config.train.batch_size?'),
        ('data.flips = True', 'data.flips; did you mean config.data.flip?'),
        ('optimizer.learning_rte = 0.5', 'optimizer.learning_rte; did you mean config.optimizer.learning_rate?'),
        ('evaluation.stepss = 3', 'evaluation.stepss; did you mean config.evaluation.steps?'),
        ('net.witdhs = (4,)', 'net.witdhs; did you mean config.net.widths?'),
        ('method.mixup_alfa = 0.5', 'method.mixup_alfa; did you mean config.method.mixup_alpha?'),
        ('sed = 3', 'sed; did you mean config.seed?'),
    ],
)
def test_a_key_that_nothing_reads_is_refused_in_a_config_file(tmp_path, statement, message):
    """The sections of a config take any name until `load` locks them."""
    said = _refused(tmp_path, f'config.{statement}')
    assert said == f'--config={tmp_path}/mine.py: there is no config.{message}'
