"""Every notebook imports from gjax and is stored as one run left it; among the slow tests, each runs in a small setting."""

import json
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parent.parent / 'colab').glob('*.ipynb'))
SMALL = {
    'dmg': {
        'train.total_steps': '20',
        'train.eval_every_steps': '10',
        'train.checkpoint_every_steps': '20',
        'train.batch_size': '16',
        'net.widths': '(4, 4, 8, 8)',
    },
    'flow_robustness': {
        'data.examples': '256',
        'data.image_size': '8',
        'train.total_epochs': '2',
        'train.eval_every_epochs': '1',
        'net.depth': '1',
        'net.hidden': '4',
        'method.attack_steps': '1',
        'evaluation.steps': '2',
        'evaluation.ood_steps': '2',
        'evaluation.curve': '(0.01,)',
        'evaluation.ood_examples': '20',
    },
    'generate_to_adapt': {
        'train.total_steps': '20',
        'train.eval_every_steps': '10',
        'train.checkpoint_every_steps': '20',
        'train.batch_size': '16',
        'net.widths': '(4, 8)',
        'net.generator_width': '4',
        'net.discriminator_width': '4',
        'net.noise': '8',
        'evaluation.probe_examples': '100',
        'evaluation.pictures': '40',
    },
    'iaat': {
        'train.total_epochs': '2',
        'evaluation.steps': '3',
        'evaluation.restarts': '1',
        'evaluation.curve_steps': '2',
        'evaluation.target_steps': '2',
        'evaluation.warnings': 'False',
        'net.widths': '(8, 8)',
        'net.hidden': '16',
    },
    'lottery_tickets': {
        'vae': {
            'train.total_epochs': '2',
            'method.rounds': '2',
            'method.control_rounds': '(2,)',
            'method.transfer_round': '2',
            'method.transfer_settings': '("method.ema=0.9",)',
            'evaluation.extractor': '',
            'evaluation.probe': 'False',
            'net.widths': '(4, 8)',
        },
        'early_bird': {
            'train.total_epochs': '4',
            'train.eval_every_epochs': '4',
            'method.history': '2',
            'method.distance': '1.0',
            'evaluation.extractor': '',
            'evaluation.probe': 'False',
            'net.widths': '(4, 8, 8)',
        },
    },
}


@pytest.mark.slow
@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs_top_to_bottom(path, monkeypatch, tmp_path):
    monkeypatch.setenv('GJAX_NOTEBOOK_SETTINGS', json.dumps(SMALL[path.stem]))
    monkeypatch.setenv('JAX_NUM_CPU_DEVICES', '1')
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=600, resources={'metadata': {'path': str(tmp_path)}}).execute()
    pictures = sum('image/png' in out.get('data', {}) for cell in notebook.cells for out in cell.get('outputs', ()))
    assert pictures >= 5


def _pictures(cells) -> int:
    return sum('image/png' in output.get('data', {}) for cell in cells for output in cell.outputs)


def _faults(cells) -> list[str]:
    """What the stored outputs of code cells show that one run from top to bottom would not have left."""
    counts = [cell.execution_count for cell in cells]
    faults = [] if counts == list(range(1, len(cells) + 1)) else [f'execution counts are {counts}']
    faults += [f'cell {i}: an error' for i, cell in enumerate(cells) for out in cell.outputs if out.output_type == 'error']
    shows = re.compile(r'^(plots|figures|plt)\.\w+\(', re.MULTILINE)
    faults += [f'cell {i}: no figure' for i, cell in enumerate(cells) if shows.search(cell.source) and not _pictures([cell])]
    return faults


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)
def test_stored_outputs_are_those_of_one_run(path):
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == 'code']
    assert 'pip' in cells[0].source
    assert not _faults(cells)
    assert _pictures(cells) >= 5


def test_other_stored_outputs_are_noticed():
    def cells():
        return [cell for cell in nbformat.read(NOTEBOOKS[0], as_version=4).cells if cell.cell_type == 'code']

    swapped, failed, empty = cells(), cells(), cells()
    swapped[2].execution_count, swapped[3].execution_count = 4, 3
    failed[1].outputs = [nbformat.v4.new_output('error', ename='E', evalue='', traceback=[])]
    assert _faults(swapped) == [f'execution counts are {[cell.execution_count for cell in swapped]}']
    assert _faults(failed) == ['cell 1: an error']
    for cell in empty:
        cell.outputs = []
    assert len(_faults(empty)) >= 5
    assert all(fault.endswith('no figure') for fault in _faults(empty))


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)
def test_they_use_gjax_and_repeat_none_of_it(path):
    source = '\n'.join(cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == 'code')
    assert 'from gjax' in source
    assert not re.search(r'^def (pgd|fgsm|select_radius|train)', source, re.MULTILINE)
