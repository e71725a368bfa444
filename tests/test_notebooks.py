"""Every notebook runs top to bottom (small setting), imports from gjax, and is stored with its outputs."""

import json
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parent.parent / 'colab').glob('*.ipynb'))
SMALL = {
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


SLOW = ('flow_robustness', 'generate_to_adapt', 'lottery_tickets')
RUN = [pytest.param(path, id=path.stem, marks=[pytest.mark.slow] * (path.stem in SLOW)) for path in NOTEBOOKS]


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('path', RUN)
def test_it_runs_top_to_bottom(path, monkeypatch, tmp_path):
    monkeypatch.setenv('GJAX_NOTEBOOK_SETTINGS', json.dumps(SMALL[path.stem]))
    monkeypatch.setenv('JAX_NUM_CPU_DEVICES', '1')
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=600, resources={'metadata': {'path': str(tmp_path)}}).execute()
    pictures = sum('image/png' in out.get('data', {}) for cell in notebook.cells for out in cell.get('outputs', ()))
    assert pictures >= 5


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda p: p.stem)
def test_stored_outputs_and_imports(path):
    notebook = nbformat.read(path, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == 'code']
    assert 'pip' in cells[0].source
    assert sum('image/png' in out.get('data', {}) for cell in cells for out in cell.outputs) >= 5
    assert not [out for cell in cells for out in cell.outputs if out.output_type == 'error']
    source = '\n'.join(cell.source for cell in cells)
    assert 'from gjax' in source
    assert not re.search(r'^def (pgd|fgsm|select_radius|train)', source, re.MULTILINE)
