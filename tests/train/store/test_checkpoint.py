"""Checkpoints hold everything, notice any damage, and fall back to the one before."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gjax.train.errors import RunError
from gjax.train.store.checkpoint import Checkpointer, to_arrays

# Tensorstore leaves the second of two read errors of one damaged checkpoint to nobody; when it is collected, Python says so.
pytestmark = pytest.mark.filterwarnings('ignore:Exception ignored in. None:pytest.PytestUnraisableExceptionWarning')


def _state(value):
    return {
        'rng': jax.random.key(value),
        'step': jnp.int32(value),
        'params': {'w': jax.random.normal(jax.random.key(value), (64, 64)), 'none': None},
        'flags': jnp.asarray([True, False]),
        'half': jnp.ones(3, jnp.bfloat16) * value,
    }


@pytest.fixture
def folder(tmp_path):
    checkpoints = Checkpointer(tmp_path / 'checkpoints')
    for step in (1, 2):
        checkpoints.save(step, _state(step))
        checkpoints.wait()
    checkpoints.close()
    return tmp_path / 'checkpoints'


def _restore(folder):
    checkpoints = Checkpointer(folder)
    try:
        return checkpoints.restore_latest(_state(0))
    finally:
        checkpoints.close()


def test_round_trip(folder):
    state, step = _restore(folder)
    assert step == 2
    for name, array in to_arrays(_state(2)).items():
        np.testing.assert_array_equal(to_arrays(state)[name], array)
    assert jax.random.uniform(state['rng']) == jax.random.uniform(jax.random.key(2))


def test_only_the_newest_two_stay(folder):
    checkpoints = Checkpointer(folder)
    checkpoints.save(3, _state(3))
    checkpoints.wait()
    assert checkpoints.steps() == [2, 3]
    checkpoints.close()


def _data_files(folder):
    files = [f for f in (folder / '2').rglob('*') if f.is_file()]
    return sorted(files, key=lambda f: f.stat().st_size)


@pytest.mark.parametrize('damage', ['truncate', 'pipe', 'empty', 'delete_all', 'flip', 'empty_directory'])
def test_a_damaged_newest_checkpoint_falls_back_with_a_warning(folder, damage):
    largest = _data_files(folder)[-1]
    content = largest.read_bytes()
    if damage == 'truncate':
        largest.write_bytes(content[: len(content) // 2])
    elif damage == 'empty':
        largest.write_bytes(b'')
    elif damage == 'pipe':
        largest.unlink()
        os.mkfifo(largest)
    elif damage == 'delete_all':
        for file in _data_files(folder):
            file.unlink()
    elif damage == 'flip':
        middle = len(content) // 2
        largest.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    else:
        (folder / '9').mkdir()
    with pytest.warns(UserWarning, match='is damaged and not used'):
        state, step = _restore(folder)
    assert step == (2 if damage == 'empty_directory' else 1)
    assert state['step'] == step
    aside = folder / ('9.damaged' if damage == 'empty_directory' else '2.damaged')
    assert aside.is_dir()  # kept: it may have been the disk that failed to read it
    state, again = _restore(folder)  # the damaged one is out of the way: no warning now
    assert again == step


@pytest.mark.parametrize('read_only', [False, True])
@pytest.mark.parametrize(
    'where', ['1/_CHECKPOINT_METADATA', '2/_CHECKPOINT_METADATA', '2/meta/metadata', '2/state/_METADATA']
)
def test_a_pipe_in_a_checkpoint_holds_nothing_up(folder, where, read_only):
    """Orbax reads metadata of all checkpoints when it opens their folder, and of a pipe it would read for ever."""
    (folder / where).unlink()
    os.mkfifo(folder / where)
    step = int(where[0])
    with pytest.warns(UserWarning, match=f'checkpoint {step} is damaged'):
        checkpoints = Checkpointer(folder, read_only=read_only)
    assert checkpoints.restore_latest(_state(0))[1] == 3 - step
    checkpoints.close()


def test_reading_only_changes_nothing(folder):
    for file in _data_files(folder):
        file.write_bytes(b'')
    before = {p: p.stat().st_mtime_ns for p in folder.rglob('*')}
    checkpoints = Checkpointer(folder, read_only=True)
    with pytest.warns(UserWarning, match='checkpoint 2 is damaged'):
        assert checkpoints.restore_latest(_state(0))[1] == 1
    checkpoints.close()
    assert {p: p.stat().st_mtime_ns for p in folder.rglob('*')} == before


def test_no_checkpoint_is_none_and_all_damaged_is_an_error(folder, tmp_path):
    assert _restore(tmp_path / 'empty') is None
    for step in ('1', '2'):
        for file in (folder / step).rglob('*'):
            if file.is_file():
                file.write_bytes(b'')
    with pytest.warns(UserWarning, match='damaged'), pytest.raises(RunError, match='move that folder away'):
        _restore(folder)


def test_a_whole_checkpoint_of_another_form_is_not_called_damaged(folder):
    other = _state(0) | {'half': jnp.ones(4, jnp.bfloat16)}
    with Checkpointer(folder) as checkpoints, pytest.raises(RunError) as error:
        checkpoints.restore_latest(other)
    assert 'checkpoint 2 in' in str(error.value)
    assert "is whole and of another run: ['half'] is bfloat16(3,); expected bfloat16(4,)" in str(error.value)
    assert _restore(folder)[1] == 2  # nothing was set aside


def test_reading_beside_the_run_that_writes(folder):
    """The run goes on between the listing of its checkpoints and their reading, and deletes those that were listed."""
    writer = Checkpointer(folder)

    def like():
        for step in (3, 4):
            writer.save(step, _state(step))
            writer.wait()
        return _state(0)

    with Checkpointer(folder, read_only=True) as checkpoints:
        state, step = checkpoints.restore_latest(like)
    writer.close()
    assert step == 4
    assert state['step'] == 4
