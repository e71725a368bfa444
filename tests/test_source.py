"""What the source must not contain: ways to run code from data files, or to write where an archive says."""

import ast
import re
from pathlib import Path

import pytest

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
        found = [str(f.relative_to(ROOT)) for f in FILES if re.search(pattern, f.read_text(encoding='utf-8'))]
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


def _without_encoding(text: str) -> list[int]:
    """The lines of a Python source that read or write text in whatever encoding the machine's locale has."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Call) or any(keyword.arg == 'encoding' for keyword in node.keywords):
            continue
        method = isinstance(node.func, ast.Attribute)
        name = node.func.attr if method else getattr(node.func, 'id', '')
        owner = getattr(node.func.value, 'id', '') if method else ''
        place = 0 if method and owner not in ('gzip', 'bz2', 'lzma', 'os', 'io') else 1  # of the mode
        given = [*node.args[place : place + 1], *(keyword.value for keyword in node.keywords if keyword.arg == 'mode')]
        mode = next((one.value for one in given if isinstance(one, ast.Constant) and isinstance(one.value, str)), None)
        if name == 'open' and owner in ('gzip', 'bz2', 'lzma'):
            wrong = mode is not None and 't' in mode
        elif name == 'open' and method and owner != 'io':  # a path's, or that of an archive or of an image library
            wrong = (not node.args and not owner.istitle()) if mode is None else re.fullmatch('[rwax+t]+', mode)
        elif name in ('open', 'fdopen'):
            wrong = mode is None or 'b' not in mode
        elif name == 'write_text':
            wrong = method and owner != 'files'  # gjax.train.store.files writes UTF-8
        else:
            wrong = name in ('read_text', 'TextIOWrapper') or any(
                keyword.arg in ('text', 'universal_newlines') and getattr(keyword.value, 'value', 0) is True
                for keyword in node.keywords
            )
        if wrong:
            found.append(node.lineno)
    return found


def test_text_is_read_and_written_as_utf_8_whatever_the_locale():
    for file in FILES:
        if file.suffix == '.py':
            assert not _without_encoding(file.read_text(encoding='utf-8')), file


@pytest.mark.parametrize(
    ('line', 'wrong'),
    [
        ('open(p)', True),
        ("open(p, 'w')", True),
        ("open(p, mode='a')", True),
        ("open(p, 'rb')", False),
        ("open(p, encoding='utf-8')", False),
        ("p.open('w')", True),
        ('p.open()', True),
        ("p.open('wb')", False),
        ("gzip.open(p, 'rt')", True),
        ('gzip.open(p)', False),
        ('Image.open(p)', False),
        ('archive.open(member)', False),
        ("os.fdopen(3, 'w')", True),
        ('p.read_text()', True),
        ("p.read_text(errors='replace')", True),
        ('p.write_text(t)', True),
        ('files.write_text(p, t)', False),
        ('io.TextIOWrapper(raw)', True),
        ('subprocess.run(c, text=True)', True),
        ("subprocess.run(c, encoding='utf-8')", False),
    ],
)
def test_the_rule_for_encodings_finds_what_it_is_for(line, wrong):
    assert bool(_without_encoding(line)) == wrong
