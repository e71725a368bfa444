"""XLA's options of compiled programs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gjax.train import devices

FUNCTIONS = {
    'sums of rows': (lambda x, w: x.sum(1), lambda x, w: x.sum(1)),
    'squares of rows': (lambda x, w: (x * x).sum(1), lambda x, w: (x * x).sum(1)),
    'maxima of rows': (lambda x, w: x.max(1), lambda x, w: x.max(1)),
    'sums of columns': (lambda x, w: x.sum(0), lambda x, w: x.sum(0)),
    'squares of columns': (lambda x, w: (x * x).sum(0), lambda x, w: (x * x).sum(0)),
    'mixed, then squares of rows': (lambda x, w: ((x @ w) ** 2).sum(1), lambda x, w: ((x @ w) ** 2).sum(1)),
    'gradient of the mixing': (lambda x, w: jax.grad(lambda w: ((x @ w) ** 2).sum())(w), lambda x, w: 2 * x.T @ (x @ w)),
    'log of sums': (lambda x, w: jax.nn.logsumexp(x, axis=1), lambda x, w: np.log(np.exp(x).sum(1))),
}


@pytest.mark.parametrize('columns', [3, 12])
@pytest.mark.parametrize('name', FUNCTIONS)
def test_sums_and_products_over_many_rows_are_right(name, columns):
    """Beyond 2 ** 15 rows, where a jaxlib's YNNPACK is known to go wrong in another pattern."""
    own, truth = FUNCTIONS[name]
    rng, compiled = np.random.default_rng(0), devices.compiled(own, devices.data_mesh(jax.devices()[:1]))
    w = rng.normal(size=(columns, columns))
    for rows in (32769, 40000):
        x = rng.normal(size=(rows, columns))
        expected = truth(x, w)
        found = np.asarray(compiled(jnp.asarray(x, jnp.float32), jnp.asarray(w, jnp.float32)))
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_options_that_this_jaxlib_does_not_know_are_left_out(monkeypatch):
    devices._options.cache_clear()
    monkeypatch.setattr(devices, '_CPU_OPTIONS', {'xla_cpu_no_such_option': ''})
    assert devices._options('cpu') == {}
    devices._options.cache_clear()
    monkeypatch.setattr(devices, '_CPU_OPTIONS', {devices._YNN: 'NO_SUCH_VALUE'})
    assert devices._options('cpu') == {}
    devices._options.cache_clear()


def test_what_the_user_has_set_stays(monkeypatch):
    devices._options.cache_clear()
    assert devices._options('cpu') == devices._CPU_OPTIONS
    assert devices._options('gpu') == {}
    devices._options.cache_clear()
    monkeypatch.setenv('XLA_FLAGS', f'--{devices._YNN}=')
    assert devices._options('cpu') == {}
    devices._options.cache_clear()
