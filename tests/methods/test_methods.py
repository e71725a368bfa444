"""Building methods by name, and configs that are refused before any data is opened."""

import dataclasses

import pytest

from gjax import methods
from gjax.methods.core.contract import DataInfo
from gjax.train import config as configs
from gjax.train.errors import RunError
from gjax.train.run import Run

INFO = DataInfo(num_classes=10, num_examples=1000, steps_per_epoch=10, num_steps=200, image_shape=(32, 32, 3))


def _config(**sections):
    config = {'method': {'name': 'supervised'}, 'net': {'name': 'small_cnn'}, 'optimizer': {}, 'evaluation': {}}
    return config | sections


@pytest.mark.parametrize('name', methods.METHODS)
def test_defaults_build_every_method(name):
    net = 'dcgan' if name in ('autoencoder', 'gan', 'lottery_tickets', 'early_bird') else 'small_cnn'
    net = 'gta_digits' if 'gta_digits' in methods.find(name).NETS else 'realnvp' if name == 'flow_robustness' else net
    net = {'adabn': 'dann_digits'}.get(name, 'alexnet' if 'alexnet' in methods.find(name).NETS else net)
    config = _config(method={'name': name}, net={'name': net})
    completed = {section: values | config[section] for section, values in methods.defaults(config).items()}
    built = methods.build(completed, INFO)
    again = methods.build(config, INFO)
    for field in dataclasses.fields(built):
        if field.name not in ('optimizer', 'constant_optimizer'):
            assert getattr(built, field.name) == getattr(again, field.name)


@pytest.mark.parametrize(
    ('sections', 'message'),
    [
        ({'method': {'name': 'iat'}}, r"method.name is 'iat' \(did you mean iaat\?\); allowed: iaat, lottery"),
        ({'method': {'name': 'iaat', 'beta': 1.5}}, r'method.beta is 1.5; allowed: 0\.\.1'),
        ({'method': {'name': 'iaat', 'gama': 1}}, r'method.gama is 1.*did you mean gamma'),
        ({'method': {'name': 'iaat', 'attack_batch_norm': 'x'}}, "attack_batch_norm is 'x'; allowed: train, eval"),
        ({'method': {'name': 'trades', 'eps': -1.0}}, 'method.eps is -1.0; allowed: >= 0'),
        ({'method': {'name': 'trades', 'attack_steps': 0}}, 'method.attack_steps is 0; allowed: > 0'),
        ({'optimizer': {'name': 'lion'}}, "optimizer.name is 'lion'; allowed: sgd, adam, adamw"),
        ({'optimizer': {'schedule': 'x'}}, "optimizer.schedule is 'x'; allowed: constant, cosine, steps"),
        ({'optimizer': {'rate': 1}}, 'no optimizer.rate; allowed: name, learning_rate'),
        ({'optimizer': {'learning_rate': -0.1}}, 'optimizer.learning_rate is -0.1; allowed: >= 0'),
        ({'optimizer': {'rho': 1.0}}, 'optimizer.rho is 1.0; allowed: 0 <= rho < 1'),
        ({'optimizer': {'clip_norm': -1.0}}, 'optimizer.clip_norm is -1.0; allowed: >= 0'),
        ({'optimizer': {'b1': 2.0}}, 'optimizer.b1 is 2.0; allowed: 0 <= b1 < 1'),
        ({'optimizer': {'milestones': (1, 'a')}}, 'optimizer.milestones is .*allowed: epochs'),
        ({'net': {'name': 'small_cnn', 'widths': (0,)}}, r'net.widths is \(0,\); allowed: positive'),
        ({'net': {'name': 'small_cnn', 'widths': ()}}, r'net.widths is \(\); allowed: positive'),
        ({'net': {'name': 'small_cnn', 'hidden': -3}}, 'net.hidden is -3; allowed: positive'),
        ({'evaluation': {'curve': (0.2, 0.1)}}, 'evaluation.curve is .*allowed: ascending'),
        ({'evaluation': {'norm': 'l1'}}, "evaluation.norm is 'l1'; allowed: linf, l2"),
        (
            {'evaluation': {'norm': 'l2', 'attacks': ('momentum_iterative',)}},
            "has 'momentum_iterative'; allowed: pgd, margin_pgd, multi_targeted",
        ),
        ({'evaluation': {'attacks': ()}}, 'evaluation.attacks is empty'),
        ({'evaluation': {'attacks': ('fab',)}}, "evaluation.attacks has 'fab'; allowed: pgd, margin_pgd, multi_targeted"),
    ],
)
def test_bad_configs_are_refused_without_data(sections, message):
    for refused in (methods.check, lambda config: methods.build(config, INFO)):
        with pytest.raises(ValueError, match=message) as caught:
            refused(_config(**sections))
        assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
    ('overrides', 'message'),
    [
        ({'method.beta': 1.5}, 'method.beta is 1.5'),
        ({'evaluation.norm': 'l1'}, "evaluation.norm is 'l1'"),
        ({'optimizer.schedule': 'x'}, "optimizer.schedule is 'x'"),
        ({'net.hidden': -3}, 'net.hidden is -3'),
        ({'train.batch_size': -8}, 'train.batch_size is -8'),
    ],
)
def test_a_run_opens_no_data_for_a_bad_config(overrides, message, monkeypatch):
    def opened(*arguments, **options):
        raise AssertionError('the data was opened')

    monkeypatch.setattr('gjax.data.open_sets', opened)
    with pytest.raises((ValueError, RunError), match=message):
        Run(configs.load('iaat/digits.py:iaat', overrides))
    with pytest.raises(AssertionError, match='the data was opened'):  # which it is for a good one
        Run(configs.load('iaat/digits.py:iaat'))


def test_methods_of_your_own_are_registered_by_name(monkeypatch):
    monkeypatch.setattr(methods, '_registered', {})
    own = dataclasses.make_dataclass('Own', [], bases=(methods.find('supervised'),), frozen=True)
    with pytest.raises(ValueError, match=r"method.name is 'own'"):
        methods.find('own')
    methods.register('own', own)
    assert type(methods.build(_config(method={'name': 'own'}), INFO)) is own
    with pytest.raises(ValueError, match=r"method.name is 'ow' \(did you mean own\?\)"):
        methods.find('ow')
