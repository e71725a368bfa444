"""The command line as users meet it: every mistake is answered by one line and a non-zero exit.

Commands run inside this process, but for those that show how a real one starts and ends.
"""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from gjax import cli
from gjax.train.errors import Interrupted
from tests.cli.runner import TINY, fails, gjax, real, tiny_environment, tiny_flags, train


@pytest.fixture(scope='session')
def finished(once):
    """The directory of a run that a real process trained."""

    def make(folder):
        done = train(folder / 'supervised', run=real)
        assert done.returncode == 0, done.stderr

    return once('supervised_by_the_command_line', make) / 'supervised'


def test_a_process_ends_with_the_exit_code_of_its_command():
    done = real('eval', '--workdir=nowhere')
    fails(done, 'holds no run')
    assert done.stdout == ''
    done = real('fly')
    assert done.returncode == 2
    assert 'Traceback' not in done.stderr
    done = real()
    assert done.returncode == 0
    assert 'reproduce' in done.stdout


def test_help_and_list():
    text = gjax('--help').stdout
    for word in ('reproduce', 'train', 'eval', 'report', 'list', '--config.method.beta=0.2'):
        assert word in text
    listed = gjax('list').stdout
    for name in ('iaat', 'trades', 'mnistm5k', 'experiments/iaat/cifar10.py', 'wide_resnet'):
        assert name in listed
    assert gjax().returncode == 0


def test_a_run_leaves_its_directory(finished):
    results = json.loads((finished / 'results.json').read_text())
    assert set(results) == {'experiment', 'method', 'seed', 'step', 'selection', 'protocol', 'protocols', 'metrics'}
    assert {'clean_accuracy', 'robust_accuracy'} <= set(results['metrics'])
    record = json.loads((finished / 'run.json').read_text())
    assert record['versions']['jax']
    assert record['devices']
    config = json.loads((finished / 'config.json').read_text())
    assert config['train']['batch_size'] == 96
    assert config['format'] == record['format'] == 2
    steps = [json.loads(line)['step'] for line in (finished / 'metrics.jsonl').read_text().splitlines()]
    assert steps == sorted(steps)
    assert (finished / 'checkpoints').is_dir()


def test_rerunning_a_finished_command_does_nothing(finished):
    before = {path: path.stat().st_mtime_ns for path in finished.rglob('*') if path.is_file()}
    again = train(finished)
    assert again.returncode == 0
    assert 'is complete: nothing to do' in again.stderr
    assert {path: path.stat().st_mtime_ns for path in finished.rglob('*') if path.is_file()} == before


def test_eval_repeats_the_result_and_takes_another_protocol(finished, tmp_path):
    results = json.loads((finished / 'results.json').read_text())
    same = real('eval', f'--workdir={finished}', f'--out={tmp_path}/same.json')  # on one device, as it was trained
    assert same.returncode == 0, same.stderr
    assert json.loads((tmp_path / 'same.json').read_text()) == results
    weak = gjax('eval', f'--workdir={finished}', '--config.evaluation.eps=0.0')
    found = json.loads(weak.stdout)
    assert found['metrics']['robust_accuracy'] == found['metrics']['clean_accuracy']
    assert found['protocols']['robust_accuracy'] == results['protocols']['robust_accuracy'].replace(' 56/255', ' 0/255')
    assert 'clean_accuracy' not in found['protocols']


def test_report_compares_runs(finished, tmp_path):
    done = gjax('report', finished, f'--out={tmp_path}/report')
    assert done.returncode == 0, done.stderr
    assert '| supervised | 1 |' in done.stdout
    for file in ('report.md', 'report.json', 'figures/frontier.png', 'figures/training_curves.png'):
        assert (tmp_path / 'report' / file).stat().st_size > 0


@pytest.mark.slow
def test_reproduce_runs_a_study_and_reports_claims_that_fail(tmp_path):
    pairs = [f'config.{key}={value}' for key, value in TINY.items()]
    command = ['reproduce', 'iaat', '--seeds=0', '--jobs=1', f'--workdir={tmp_path}', '--set', *pairs]
    done = gjax(*command)
    assert done.returncode == 0, done.stderr
    study = json.loads((tmp_path / 'study.json').read_text())
    assert {claim['verdict'] for claim in study['claims'].values()} == {'not shown'}  # one seed shows nothing
    assert set(study['metrics']) >= {'supervised', 'adversarial_training', 'iaat'}
    for path in study['figures'].values():
        assert path in done.stdout
        assert os.path.getsize(path) > 5000
    assert '| iaat | 1 |' in (tmp_path / 'table.md').read_text()
    kept = [*tmp_path.glob('*/seed0/*'), *tmp_path.glob('figures/*'), tmp_path / 'study.json']
    before = {path: path.stat().st_mtime_ns for path in kept}
    again = gjax(*command)
    assert again.returncode == 0
    assert 'reproduce iaat is complete: nothing to do' in again.stderr
    assert again.stdout.startswith('#### How accurate')
    assert done.stdout.endswith(again.stdout)  # which says no more that the runs are done, one a line
    assert {path: path.stat().st_mtime_ns for path in kept} == before
    other = gjax(*command, 'config.net.hidden=16')
    fails(other, 'holds a run with config.net.hidden=8, not 16')


def _npz(path, **changes):
    arrays = {
        'train_images': np.zeros((200, 8, 8, 1), np.uint8),
        'train_labels': np.arange(200) % 2,
        'test_images': np.zeros((120, 8, 8, 1), np.uint8),
        'test_labels': np.arange(120) % 2,
    }
    np.savez(path, **{key: value for key, value in (arrays | changes).items() if value is not None})
    return f'npz:{path}'


def test_unknown_keys_sets_and_values(tmp_path):
    fails(train(tmp_path / 'a', changes={'method.mixup_alfa': '1'}), 'no config.method.mixup_alfa', 'mixup_alpha')
    fails(train(tmp_path / 'a', changes={'data.name': 'mnits5k'}), "data.name is 'mnits5k'", 'did you mean mnist5k')
    fails(train(tmp_path / 'a', changes={'evaluation.eps': '-0.1'}), 'evaluation.eps is -0.1', 'allowed: >= 0')
    trades = train(tmp_path / 'a', 'iaat/digits.py:trades', {'method.eps': '-1'})
    fails(trades, 'method.eps is -1.0; allowed: >= 0')
    assert not (tmp_path / 'a').exists()


def test_missing_tfds_directory_says_the_command_that_prepares_it(tmp_path):
    done = train(tmp_path / 'a', changes={'data.name': 'cifar10', 'data.dir': tmp_path / 'none'})
    fails(done, 'holds no prepared TFDS set', 'tfds build cifar10 --file_format=array_record')


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        ({'test_labels': None}, ('lacks test_labels',)),
        ({'train_images': np.zeros((200, 8, 8, 1))}, ('dtype float64', 'allowed: uint8')),
        ({'train_images': np.zeros((200, 8, 8, 5), np.uint8)}, ('shape (200, 8, 8, 5)',)),
        ({'test_labels': np.full(120, 7)}, ('labels run from 7 to 7', 'allowed: 0..1')),
    ],
)
def test_bad_npz(tmp_path, changes, words):
    fails(train(tmp_path / 'a', changes={'data.name': _npz(tmp_path / 'a.npz', **changes)}), *words)


def test_workdirs_that_cannot_serve(finished, tmp_path):
    (tmp_path / 'file').write_text('')
    fails(train(tmp_path / 'file' / 'run'), '--workdir is', 'cannot be written')
    other = train(finished, changes={'optimizer.learning_rate': '0.5'})
    fails(other, 'holds a run with config.optimizer.learning_rate=0.05, not 0.5')
    fails(gjax('eval', f'--workdir={tmp_path}'), 'holds no run')
    fails(gjax('report', tmp_path, f'--out={tmp_path}/out'), 'holds no finished run')


def test_a_batch_that_the_devices_cannot_share(tmp_path):
    done = train(tmp_path / 'a', changes={'train.batch_size': '100'})
    fails(done, 'train.batch_size is 100', 'multiples of 8')


def test_a_non_finite_loss_names_step_player_and_checkpoint(tmp_path):
    changes = {'optimizer.learning_rate': '1e30', 'optimizer.schedule': 'constant', 'net.batch_norm': 'false'}
    done = train(tmp_path / 'a', changes=changes)
    fails(done, 'of player classifier is', 'at step ', 'no checkpoint yet')
    assert not (tmp_path / 'a' / 'results.json').exists()


def test_usage_mistakes():
    for arguments in (['train'], ['eval', '--workdir=a', 'b'], ['fly'], ['list', '--config.seed=1']):
        done = gjax(*arguments)
        assert done.returncode == 2
        assert 'Traceback' not in done.stderr
    fails(gjax('reproduce', 'iaat', '--seeds=a'), "--seeds is 'a'")
    fails(gjax('reproduce', 'iaat', '--seeds=1,1'), "--seeds is '1,1'; allowed: each seed once")
    fails(gjax('reproduce', 'iat'), "no study 'iat'", 'known: dmg, flow_robustness, generate_to_adapt, iaat')


def test_an_option_of_several_values_swallows_no_other(tmp_path):
    command = ['sweep', '--config=iaat/digits.py', f'--workdir={tmp_path}', '--print', '--over', 'seed=0,1', 'net.hidden=8']
    done = gjax(*command, '--config.net.widths=(4, 8)')
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    assert all("'--config.net.widths=(4, 8)'" in line and 'hidden=8' in line for line in lines)
    for swallowed in ('--config.net.widths', '--config.no_such_key=a b'):
        assert gjax(*command, swallowed).returncode in (1, 2)
    done = gjax(*command, '--overrides=a b')
    assert done.returncode == 2
    assert "'--overrides=a b' is no KEY=VALUE" in done.stderr
    fails(gjax('reproduce', 'iaat', '--set', 'config.seed=0', '--config.net.hidden=a b'), 'config.net.hidden is')
    done = gjax('reproduce', 'iaat', '--set', 'config.seed=0', '--sets=a b')
    assert done.returncode == 2
    assert "'--sets=a b' is no KEY=VALUE" in done.stderr


def test_a_name_that_cannot_be_encoded_is_shown(monkeypatch, tmp_path):
    def fail(arguments, overrides):
        'a\udcffb'.encode()

    monkeypatch.setitem(cli.COMMANDS, 'list', fail)
    fails(gjax('list'), r"'a\udcffb' holds '\udcff'; allowed: characters of utf-8")


@pytest.mark.parametrize('told', [True, False])
def test_what_the_user_has_read_is_not_printed_again(monkeypatch, told):
    def stop(arguments, overrides):
        raise Interrupted('SIGHUP after the last step', 129, told)

    monkeypatch.setitem(cli.COMMANDS, 'list', stop)
    assert gjax('list') == (129, '', '' if told else 'gjax: SIGHUP after the last step\n')


def test_import_is_light_and_starts_no_backend():
    code = (
        'import sys, jax; before = set(sys.modules); import gjax; assert set(sys.modules) - before == {"gjax"};'
        'from jax._src import xla_bridge; assert not xla_bridge._backends;'
        'assert not {"tensorflow", "torch", "tensorflow_datasets", "matplotlib"} & set(sys.modules)'
    )
    subprocess.run([sys.executable, '-c', code], check=True, timeout=120, env=tiny_environment())


@pytest.mark.slow
def test_a_sweep_runs_the_grid_and_goes_on_past_a_failure(tmp_path):
    """One value diverges: the others are trained, the failure is named, the same command tries it again."""
    command = ['sweep', '--config=iaat/digits.py:supervised', f'--workdir={tmp_path}/grid', '--jobs=2']
    command += [f'--over={over}' for over in ('seed=0,1', 'optimizer.learning_rate=0.05,1e30')]
    flags = tiny_flags(**{'net.batch_norm': 'false', 'optimizer.schedule': 'constant'})
    done = gjax(*command, *flags)
    fails(
        done,
        '2 of 4 runs failed, finished ones are kept',
        'seed=0/learning_rate=1e30: exit code 1',
        'of player classifier is',
    )
    finished = sorted(p.parent.relative_to(tmp_path / 'grid').as_posix() for p in tmp_path.rglob('results.json'))
    assert finished == [f'seed={seed}/learning_rate=0.05' for seed in (0, 1)]
    good = [*command[:-1], '--over=optimizer.learning_rate=0.05', *flags]
    before = [p.stat().st_mtime_ns for p in tmp_path.rglob('results.json')]
    done = gjax(*good)
    assert done.returncode == 0, done.stderr
    assert '| 2 | complete |' in done.stdout
    assert 'all 2 runs are complete: nothing to do' in done.stderr
    assert [p.stat().st_mtime_ns for p in tmp_path.rglob('results.json')] == before
    assert (tmp_path / 'grid' / 'report' / 'report.md').is_file()
    (tmp_path / 'precious').write_text('precious')
    (tmp_path / 'grid' / 'seed=1' / 'learning_rate=1e30' / 'output.log').unlink()
    (tmp_path / 'grid' / 'seed=1' / 'learning_rate=1e30' / 'output.log').symlink_to(tmp_path / 'precious')
    fails(gjax(*command, *flags), 'output.log is a link; a run writes only inside its own directory')
    assert (tmp_path / 'precious').read_text() == 'precious'
    launched = {'SLURM_NTASKS': '2', 'SLURM_PROCID': '0', 'SLURM_STEP_NODELIST': 'n[1-2]'}
    fails(gjax(*command, *flags, **launched), 'gjax sweep starts its runs itself')
    printed = gjax(*command, *flags, '--print')
    assert printed.returncode == 0
    assert printed.stdout.count('gjax train ') == 2


@pytest.mark.slow
def test_a_streamed_run_is_the_one_in_memory_and_is_profiled(finished, tmp_path):
    flags = tiny_flags(**{'data.streaming': 'true', 'data.workers': '2'})
    done = real('train', '--config=iaat/digits.py:supervised', f'--workdir={tmp_path}/run', *flags, '--profile=6:9')
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == json.loads((finished / 'results.json').read_text())
    record = json.loads((tmp_path / 'run' / 'run.json').read_text())
    assert record['examples_per_second'] > 0
    assert 0 <= record['data_wait_share'] <= 1
    assert list((tmp_path / 'run' / 'profile').rglob('*.xplane.pb'))
    steps = [json.loads(line)['step'] for line in (tmp_path / 'run' / 'metrics.jsonl').read_text().splitlines()]
    assert {5, 9} <= set(steps)  # the trace begins after step 5 and ends after step 9
    # Another number of workers is the same run.
    again = gjax(
        'train', '--config=iaat/digits.py:supervised', f'--workdir={tmp_path}/run', *flags, '--config.data.workers=0'
    )
    assert again.returncode == 0, again.stderr
    fails(
        gjax('train', '--config=iaat/digits.py', f'--workdir={tmp_path}/b', '--profile=9:6'),
        "--profile is '9:6'; allowed: FIRST",
    )
