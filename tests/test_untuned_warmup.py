"""`lrax.untuned_warmup` equals pytorch_warmup, and lasts as long as the paper says."""

import golden
import jax
import numpy as np
import pytest

import lrax

RECORDED = golden.read("warmup")["settings"]


def test_it_equals_pytorch_warmup(x64):
    for setting in RECORDED:
        rates, kind = setting["rates"], setting["name"]
        ours = lrax.untuned_warmup(**setting["keywords"], kind=kind).values(len(rates))
        np.testing.assert_allclose(ours, rates, atol=1e-6)
    with x64:
        for setting in RECORDED:
            ours = lrax.untuned_warmup(**setting["keywords"], kind=setting["name"])
            np.testing.assert_allclose(ours.values(len(rates)), setting["rates"], rtol=1e-9)


def test_the_linear_one_is_not_truncated():
    # 2 / (1 - 0.999) is below 2000 in floating point, and pytorch_warmup makes 1999 of it.
    rates = lrax.untuned_warmup(0.1)
    assert float(rates(1998)) == pytest.approx(0.1 * 1999 / 2000, rel=1e-7)
    assert float(rates(1999)) == float(rates(10**6)) == pytest.approx(0.1)


def test_a_traced_b2_that_radam_cannot_take_gives_no_nan():
    rate_of = lambda b2: lrax.untuned_warmup(b2=b2, kind="radam")(3)
    rate, slope = jax.jit(jax.value_and_grad(rate_of))(0.3)
    assert np.isfinite(rate)
    assert np.isfinite(slope)


def test_radam_refuses_a_small_b2():
    with pytest.raises(ValueError, match=r"`b2` must be .* at least 0\.65, got 0\.5"):
        lrax.untuned_warmup(b2=0.5, kind="radam")
