"""What must hold of hyperparameters; that builders ask for it is a law of `test_laws.py`."""

import jax
import numpy as np
import pytest
from jax import numpy as jnp
from jax.experimental import checkify

from lrax import _require


@pytest.fixture
def checked_when_traced():
    with _require.checks():
        yield


@pytest.mark.parametrize(
    "number",
    [
        3,
        3.0,
        np.int8(3),
        np.uint64(3),
        np.float16(3),
        np.float64(3),
        np.asarray(3),
        jnp.bfloat16(3),
        jnp.asarray(3),
        jnp.asarray(3.0),
    ],
    ids=lambda number: type(number).__name__,
)
def test_numbers_become_strong_floats_of_numpy(number):
    leaf = _require.real(value=number)["value"]
    assert isinstance(leaf, np.ndarray)
    assert (leaf.dtype, leaf.shape, leaf) == (np.float64, (), 3)


def test_arrays_stay_arrays(x64):
    for value in (
        [1, 2],
        (1.0, 2.0),
        np.array([1, 2]),
        jnp.array([1, 2]),
        jnp.array([1, 2], jnp.bfloat16),
    ):
        leaf = _require.real(value=value)["value"]
        assert isinstance(leaf, np.ndarray)
        assert (leaf.dtype, leaf.shape) == (np.float64, (2,))
    array = np.ones(2, np.float32)
    assert _require.real(value=array)["value"] is not array  # the caller may write into his own
    on_device = jnp.ones(2)
    assert _require.real(value=on_device)["value"] is on_device
    with x64:
        assert _require.real(value=on_device)["value"].dtype == _require.float_dtype() == np.float64


def test_tracers_are_cast():
    leaf = jax.eval_shape(lambda value: _require.real(value=value)["value"], 3)
    assert (leaf.dtype, leaf.weak_type) == (np.float32, False)
    with pytest.raises(TypeError, match="`value` must be a real number"):
        jax.eval_shape(lambda value: _require.real(value=value), True)


@pytest.mark.parametrize(
    "value",
    ["1", b"1", None, True, [True], 1j, object(), {"a": 1}, np.bool_(1), jnp.asarray(True), 2**70],
)
def test_what_is_no_number_is_named(value):
    with pytest.raises(TypeError, match="`value` must be a real number or an array of them, got "):
        _require.real(value=value)


@pytest.mark.parametrize(
    ("requirement", "good", "bad", "words"),
    [
        (_require.finite, [-1.0, 0.0, 1e30], [np.nan, np.inf, -np.inf], "finite"),
        (_require.nonnegative, [0.0, 1e30], [np.nan, np.inf, -1e-30], "finite and non-negative"),
        (_require.positive, [1e-30, 1e30], [np.nan, np.inf, 0.0, -1.0], "finite and positive"),
        (_require.below_one, [0.0, 0.999], [np.nan, np.inf, -1e-30, 1.0], "at least 0 and below 1"),
        (
            lambda values, *names: _require.between(values, 0.5, 1, *names),
            [0.5, 1.0],
            [np.nan, 0.4, 1.1, -np.inf],
            "from 0.5 to 1",
        ),
    ],
)
@pytest.mark.usefixtures("checked_when_traced")
def test_ranges(requirement, good, bad, words):
    requirement({"value": np.float32(good), "other": np.nan}, "value")
    requirement({"value": np.zeros(0)}, "value")
    checked = checkify.checkify(jax.jit(lambda value: requirement({"value": value}, "value")))
    assert checked(np.float32(good))[0].get() is None
    for one in bad:
        among = np.float32([*good, one])
        for value in (np.float32(one), jnp.float32(one), among):
            with pytest.raises(ValueError, match=f"`value` must be {words}, got "):
                requirement({"value": value}, "value")
        assert f"`value` must be {words}, got" in checked(among[-len(good) :])[0].get()


@pytest.mark.usefixtures("checked_when_traced")
def test_at_most():
    words = "`warmup` must be at most `steps`"
    for low, high in [
        (3, 3),
        ([1, 3], 3),
        ([1, 3], [1, 3]),
        ((1, 2), 3),
        (np.nextafter(np.float32(3), 4), 3),
    ]:
        _require.at_most(
            words,
            *(value if isinstance(value, tuple) else np.float32(value) for value in (low, high)),
        )
    for low, high in [(4, 3), ([1, 4], 3), ((2, 2), 3), (np.nan, 3), (3, np.nan)]:
        leaves = [value if isinstance(value, tuple) else np.float32(value) for value in (low, high)]
        with pytest.raises(ValueError, match=f"{words}, got .* and "):
            _require.at_most(words, *leaves)
        checked = checkify.checkify(jax.jit(lambda low, high: _require.at_most(words, low, high)))
        assert f"{words}, got " in checked(*leaves)[0].get()
    with pytest.raises(ValueError, match=r"got \[1. 4.\] and 3.0"):
        _require.at_most(words, np.float32([1, 4]), np.float32(3))


def test_traced_values_are_checked_only_inside_of_checks():
    def leaf(value):
        return _require.nonnegative({"value": value}, "value") or value

    assert not jax.make_jaxpr(leaf)(1.0).effects
    program = jax.jit(leaf)
    assert program(-1.0) == -1
    with _require.checks():
        assert jax.make_jaxpr(leaf)(1.0).effects
        # The program that was compiled before is traced anew.
        error, _ = checkify.checkify(program)(-1.0)
        assert "`value` must be finite and non-negative, got -1" in error.get()
    assert not jax.make_jaxpr(leaf)(1.0).effects
    assert program(-1.0) == -1


def test_a_missing_package_is_named_with_its_extra():
    assert _require.extra("numpy", "plot") is np
    with pytest.raises(
        ImportError, match=r'this needs no_such_package, .*: pip install "lrax\[plot\] @ git\+https'
    ):
        _require.extra("no_such_package.figure", "plot")
    with pytest.raises(
        ImportError, match=r"this needs numpy\.no_such_module, which is not installed"
    ):
        _require.extra("numpy.no_such_module", "plot")


@pytest.mark.parametrize(
    ("code", "error", "words"),
    [
        ("import no_such_package", ModuleNotFoundError, "No module named 'no_such_package'"),
        ("from . import figures_of_old", ImportError, "cannot import name 'figures_of_old'"),
        (
            "raise ModuleNotFoundError('built for another machine')",
            ModuleNotFoundError,
            "built for another machine",
        ),
        ("1 / 0", ZeroDivisionError, "division by zero"),
    ],
)
def test_a_package_that_is_installed_and_broken_says_itself_what_is_wrong(
    code, error, words, tmp_path, monkeypatch
):
    package = tmp_path / "a_broken_package"
    package.mkdir()
    (package / "__init__.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(error, match=words) as raised:
        _require.extra("a_broken_package.figure", "plot")
    assert "pip install" not in str(raised.value)


def test_words_and_counts():
    _require.choice("shape", "round", ["flat", "round"])
    with pytest.raises(ValueError, match="`shape` must be one of 'flat', 'round', got 'square'"):
        _require.choice("shape", "square", iter(["flat", "round"]))
    assert type(_require.count("size", np.int64(3), 1)) is int
    with pytest.raises(ValueError, match="`size` must be at least 1, got 0"):
        _require.count("size", 0, 1)
    for value in (1.0, "1", None, True):
        with pytest.raises(TypeError, match="`size` must be an int, got "):
            _require.count("size", value, 1)
