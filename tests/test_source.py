"""What the source must not contain: ways to run code from data files, or to write where an archive says."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
FILES = [
    f for folder in ('gjax', 'experiments', 'colab') for f in (ROOT / folder).rglob('*') if f.suffix in ('.py', '.ipynb')
]
FORBIDDEN = {
    'unpickling': r'\bpickle\.loads?\b|\bimport pickle\b|allow_pickle=True|joblib\.load|yaml\.(unsafe_)?load\(',
    'torch files that hold code': r'torch\.load\((?!.*weights_only=True)',
    'evaluated text': r'(?<![\w.])(eval|exec)\(',
    'archives unpacked without a filter': r'\.extractall\(|\.extract\(|unpack_archive\(',
    'shells': r'shell=True|os\.system\(',
}


def test_no_data_file_runs_code_or_chooses_where_it_is_written():
    assert len(FILES) > 40
    for what, pattern in FORBIDDEN.items():
        found = [str(f.relative_to(ROOT)) for f in FILES if re.search(pattern, f.read_text())]
        assert not found, what


def test_the_patterns_find_what_they_are_for():
    for what, line in (
        ('unpickling', 'np.load(f, allow_pickle=True)'),
        ('torch files that hold code', 'torch.load(path)'),
        ('evaluated text', 'x = eval(text)'),
        ('archives unpacked without a filter', 'tarfile.open(f).extractall(path)'),
        ('shells', "subprocess.run('ls', shell=True)"),
    ):
        assert re.search(FORBIDDEN[what], line)
    assert not re.search(FORBIDDEN['torch files that hold code'], 'torch.load(path, weights_only=True)')
