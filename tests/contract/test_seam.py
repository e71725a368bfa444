"""The engine knows no method: what it may ask is declared in `gjax.methods.core.contract.Method`, with defaults.

The source of the engine and of the contract battery is read as syntax trees. Forbidden are: to ask whether an object has an
attribute of some name; to ask whether it is of a method's class; to import a method's module; to name a method in a string.
"""

import ast
import inspect
from pathlib import Path

import pytest

from gjax import methods
from gjax.methods.core import contract

ROOT = Path(__file__).parents[2]
ENGINE = ('gjax/train', 'gjax/study', 'gjax/evaluators')
FILES = [file for folder in ENGINE for file in sorted((ROOT / folder).rglob('*.py'))]
FILES += [file for file in sorted((ROOT / 'tests/contract').glob('*.py')) if file.name not in ('cases.py', 'test_seam.py')]
# What is not asked of a method: names of attributes and of methods that a file may use, and of what they are.
ALLOWED = {
    'gjax/train/config.py': {
        'get_config',  # of a config file's module
        'supervised',  # the method of `base_config`, which every experiment replaces
    },
    'gjax/train/store/checkpoint.py': {'ignores_late_callbacks'},  # of Python's hook for exceptions that nobody catches
}


def _bases_of_methods() -> set[str]:
    """The names of all classes of methods, their bases included."""
    classes = {base for name in methods.METHODS for base in methods.find(name).__mro__}
    return {cls.__name__ for cls in classes if issubclass(cls, contract.Method)} | {'Method'}


CLASSES = _bases_of_methods()


def _is_method_module(module: str) -> bool:
    own = [f'gjax.methods.{name}' for name in (*methods.METHODS, 'baselines')]
    return module in own or module.startswith('gjax.methods.baselines.')


def _names(node) -> set[str]:
    """The names in an expression: of `Method`, `methods.Method` and tuples or unions of such."""
    found = {own.id for own in ast.walk(node) if isinstance(own, ast.Name)}
    return found | {own.attr for own in ast.walk(node) if isinstance(own, ast.Attribute)}


def _asked_for(node: ast.Call) -> str:
    """The attribute that hasattr, or getattr with a default, asks for by a literal name; '' for Python's own __names__."""
    name = node.args[1].value if len(node.args) > 1 and isinstance(node.args[1], ast.Constant) else ''
    return '' if name.startswith('__') else name


def _in_call(node: ast.Call, allowed) -> str:
    """What a call does that is forbidden; '' if nothing."""
    name = node.func.id if isinstance(node.func, ast.Name) else ''
    if name == 'hasattr' or (name == 'getattr' and len(node.args) == 3):
        asked = _asked_for(node)
        return f'asks for {asked!r} by {name}' if asked and asked not in allowed else ''
    if name in ('isinstance', 'issubclass') and len(node.args) == 2 and _names(node.args[1]) & CLASSES:
        return 'asks for a class of methods'
    return ''


def _imports(node) -> list[str]:
    """The modules that a node imports, `from package import name` as both the package and package.name."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module:
        return [node.module, *(f'{node.module}.{alias.name}' for alias in node.names)]
    return []


def _docstrings(tree) -> set[int]:
    """The identities of the nodes that are docstrings or other bare strings."""
    return {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)}


def offences(source: str, allowed=frozenset()) -> list[str]:
    """'LINE: what' of everything that is forbidden."""
    tree, found = ast.parse(source), []
    ignored = _docstrings(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and (what := _in_call(node, allowed)):
            found.append(f'{node.lineno}: {what}')
        for module in _imports(node):
            if _is_method_module(module):
                found.append(f'{node.lineno}: imports {module}')
        named = isinstance(node, ast.Constant) and node.value in methods.METHODS and id(node) not in ignored
        if named and node.value not in allowed:
            found.append(f'{node.lineno}: names the method {node.value!r}')
    return found


@pytest.mark.parametrize('file', FILES, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_it_knows_no_method(file):
    assert not offences(file.read_text(), ALLOWED.get(file.relative_to(ROOT).as_posix(), frozenset()))


def test_nothing_is_allowed_that_is_not_used():
    for file, names in ALLOWED.items():
        found = ' '.join(offences((ROOT / file).read_text()))
        for name in names:
            assert repr(name) in found


@pytest.mark.parametrize(
    ('source', 'what'),
    [
        ("hasattr(method, 'nll')", "asks for 'nll' by hasattr"),
        ("getattr(run.method, 'domains', ())", "asks for 'domains' by getattr"),
        ('isinstance(method, methods.Method)', 'asks for a class of methods'),
        ('isinstance(x, (int, GenerateToAdapt))', 'asks for a class of methods'),
        ('issubclass(cls, Classifier | Flow)', 'asks for a class of methods'),
        ('import gjax.methods.iaat', 'imports gjax.methods.iaat'),
        ('from gjax.methods import lottery_tickets', 'imports gjax.methods.lottery_tickets'),
        ('from gjax.methods.baselines.gan import GAN', 'imports gjax.methods.baselines.gan'),
        ("x = {'iaat': 1}", "names the method 'iaat'"),
    ],
)
def test_what_is_forbidden_is_found(source, what):
    assert any(line.endswith(what) for line in offences(source))


def test_what_is_allowed_is_not_found():
    source = '''
    """iaat"""
    from gjax.methods.core.contract import Method
    from gjax import methods
    isinstance(x, int | str)
    getattr(module, name)
    getattr(leaf, name, None)
    getattr(function, '__self__', None)
    x = 'of iaat'
    '''
    assert not offences(inspect.cleandoc(source))
