"""Values of config keys: quotients, paths and NumPy's numbers, from the command line, config files and old runs."""

import json

import numpy as np
import pytest

from gjax.train import config as configs
from gjax.train.values import parse_argument

FILE = 'iaat/digits.py'


@pytest.mark.parametrize(
    ('key', 'text', 'value'),
    [
        ('method.eps', '8/255', 8 / 255),
        ('method.eps', ' 4 / 255 ', 4 / 255),
        ('method.eps', '0.5/2', 0.25),
        ('evaluation.curve', '(0, 4/255, 8/255)', (0.0, 4 / 255, 8 / 255)),
        ('evaluation.curve', '4/255, 8/255', (4 / 255, 8 / 255)),
        ('evaluation.curve', '[8/255]', (8 / 255,)),
    ],
)
def test_quotients_are_the_numbers_that_they_are_in_python(key, text, value):
    config = configs.load(FILE, {key: text})
    assert config[key.partition('.')[0]][key.partition('.')[2]] == value


@pytest.mark.parametrize(
    ('key', 'text'),
    [
        ('method.eps', text)
        for text in (
            '8/0',
            '8/x',
            '8/255/2',
            '8*255',
            '1/2 + 1',
            "'8'/255",
            'True/2',
            '(8/255,)',
            '8/255 if 1 else 0',
            '1e999/2',
        )
    ]
    + [('method.attack_steps', '8/2'), ('net.widths', '(8/2, 8)'), ('evaluation.attacks', '(1/2,)'), ('data.flip', '1/1')],
)
def test_what_is_no_quotient_of_two_numbers_is_refused(key, text):
    with pytest.raises(configs.ConfigError, match=f'^config.{key} is .*; allowed: '):
        configs.load(FILE, {key: text})


def test_paths_mean_the_same_from_every_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('HOME', '/home/somebody')
    sets = {'data.name': 'npz:a/../b.npz', 'data.target': 'folder:~/set', 'data.unseen': "('folder:c', 'digits')"}
    config = configs.load('generate_to_adapt/digits.py:dann', sets)
    assert config.data.name == f'npz:{tmp_path}/b.npz'
    assert configs.load('iaat/digits.py', {'data.dir': 'sets'}).data.dir == f'{tmp_path}/sets'
    assert config.data.target == 'folder:/home/somebody/set'
    assert config.data.unseen == (f'folder:{tmp_path}/c', 'digits')
    assert configs.load(
        'lottery_tickets/digits.py:gan', {'evaluation.extractor': 'inception:w.npz'}
    ).evaluation.extractor == (f'inception:{tmp_path}/w.npz')
    older = json.loads(configs.to_json(config))  # which kept paths as they were typed
    older['data']['name'] = 'npz:b.npz'
    assert configs.from_json(json.dumps(older)).data.name == config.data.name


@pytest.mark.parametrize('name', ['photo', '7', 'npz:a,b.npz', "o'clock"])
def test_one_name_of_a_set_needs_no_brackets(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = configs.load(FILE, {'data.unseen': name, 'data.sources': 'folder:pacs/*'}).data
    assert own.unseen == (name.replace('npz:', f'npz:{tmp_path}/'),)
    assert own.sources == (f'folder:{tmp_path}/pacs/*',)
    assert configs.load(FILE, {'data.unseen': "('photo', 'art')"}).data.unseen == ('photo', 'art')
    for wrong in ('', 7):
        with pytest.raises(configs.ConfigError, match=r'config.data.unseen is .*; allowed: a value of type tuple'):
            configs.load(FILE, {'data.unseen': wrong})


def test_numpy_integers_and_arrays_where_a_config_file_may_put_them(tmp_path):
    (tmp_path / 'mine.py').write_text(
        'import numpy as np\n'
        'from gjax.train.config import base_config\n'
        'def get_config():\n'
        '    config = base_config()\n'
        "    config.method = {'name': 'iaat', 'attack_steps': np.int64(3)}\n"
        "    config.evaluation = {'curve': np.linspace(0, 0.5, 3)}\n"
        '    return config\n',
        encoding='utf-8',
    )
    config = configs.load(str(tmp_path / 'mine.py'))
    assert (config.method.attack_steps, type(config.method.attack_steps)) == (3, int)
    assert config.evaluation.curve == (0.0, 0.25, 0.5)
    assert json.loads(configs.to_json(config))['evaluation']['curve'] == [0.0, 0.25, 0.5]


def test_numpy_scalars_of_a_config_file_are_numbers(tmp_path):
    (tmp_path / 'mine.py').write_text(
        'import numpy as np\n'
        'from gjax.train import config as configs\n'
        'def get_config():\n'
        "    config = configs.copy(configs.load('iaat/digits.py')).unlock()\n"
        '    config.optimizer.learning_rate = np.float64(0.25)\n'
        '    config.evaluation.curve = (np.float32(0.5), np.float64(0.75))\n'
        '    return config\n'
    )
    config = configs.load(str(tmp_path / 'mine.py'), {'evaluation.eps': np.float64(0.125), 'net.hidden': np.int64(3)})
    stored = json.loads(configs.to_json(config))
    assert stored['optimizer']['learning_rate'] == 0.25
    assert stored['evaluation']['curve'] == [0.5, 0.75]
    assert (stored['evaluation']['eps'], stored['net']['hidden']) == (0.125, 3)
    assert configs.from_json(configs.to_json(config)).to_dict() == config.to_dict()


def test_the_parts_of_a_configs_argument():
    allowed = {'METHOD': ('dann', 'adda'), 'TRANSFER': ('a_to_b', 'b_to_a')}
    assert parse_argument('adda', **allowed) == ['adda', 'a_to_b']
    assert parse_argument('adda,b_to_a', **allowed) == ['adda', 'b_to_a']
    for wrong in ('', 'dan', 'dann,c', 'dann,', 'dann,a_to_b,x'):
        with pytest.raises(
            ValueError, match=r'^the argument is .*; allowed: METHOD or METHOD,TRANSFER of dann, adda and a_to_b'
        ):
            parse_argument(wrong, **allowed)
