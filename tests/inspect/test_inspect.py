"""Summaries, activations and pictures."""

import builtins
import contextlib
import io
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn import inspect
from fnn.inspect.operations import multiply_adds
from fnn.layers.initial import he_normal
from tests.helpers import assert_close


def relu():
    return fnn.lift(lambda params, x: jnp.maximum(x, 0), name="relu")


@contextlib.contextmanager
def compilations():
    """A list of the seconds of each program that XLA compiles inside the block."""
    seconds = []

    def listen(event, duration, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            seconds.append(duration)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield seconds
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def counter():
    """A layer with state: adds how often it was called."""

    def apply(params, state, x, *, train=False, key=None):
        return x + state["n"], {"n": state["n"] + 1}

    return fnn.Layer(lambda key, x: ({}, {"n": jnp.zeros((4,))}), apply, "counter")


def nested():
    block = fnn.residual(fnn.serial(fnn.dense(4), counter()), after=relu())
    return fnn.serial(
        stem=fnn.dense(4),
        blocks=fnn.repeat(block, 3),
        branches=fnn.parallel(fnn.dense(2), fnn.remat(fnn.serial(fnn.dense(3), relu())), merge=fnn.concat),
    )


def rows(text):
    """The cells of a summary by path."""
    lines = [line.split("  ") for line in text.splitlines() if not line.startswith("-")]
    cells = [[c.strip() for c in line if c.strip()] for line in lines]
    return {c[0]: c[1:] for c in cells[1:]}


class TestSummary:
    def test_counts(self):
        table = rows(fnn.summary(fnn.serial(hidden=fnn.dense(4), act=relu(), out=fnn.dense(2, bias=False)), (5, 3)))
        assert table["hidden"] == ["dense", "(5, 4)", "16", "64", "60"]
        assert table["act"] == ["relu", "(5, 4)", "-", "-", "-"]
        assert table["out"] == ["dense", "(5, 2)", "8", "32", "40"]
        assert table["total"] == ["(5, 2)", "24", "96", "100"]

    def test_looks_into_every_combinator_and_multiplies_repeats(self):
        text = fnn.summary(nested(), (8, 4))
        table = rows(text)
        assert list(table)[:6] == [
            "stem",
            "blocks/residual/body/00_dense x 3",
            "blocks/residual/body/01_counter x 3",
            "blocks/residual/shortcut x 3",
            "blocks/residual/after x 3",
            "branches/00_dense",
        ]
        assert table["blocks/residual/body/00_dense x 3"] == ["dense", "(8, 4)", "60", "240", str(3 * 8 * 16)]
        params, _ = nested().init(jax.random.key(0), (8, 4))
        size = sum(p.size for p in jax.tree.leaves(params))
        assert table["total"][:3] == ["(8, 5)", str(size), str(4 * size)]
        assert text.endswith("\nand 48 bytes of state that is not trained")

    def test_takes_arrays_specs_and_shapes_and_a_single_leaf(self):
        layer, x = fnn.dense(2), jnp.ones((3, 4))
        texts = {fnn.summary(layer, a) for a in (x, jax.ShapeDtypeStruct(x.shape, x.dtype), x.shape)}
        assert len(texts) == 1
        assert rows(texts.pop())["dense"] == ["dense", "(3, 2)", "10", "40", "24"]

    def test_bytes_follow_the_dtype(self):
        assert rows(fnn.summary(fnn.dense(2), jax.ShapeDtypeStruct((1, 4), jnp.bfloat16)))["dense"][3] == "20"

    def test_names_the_layer_that_does_not_fit(self):
        bad = fnn.serial(
            first=fnn.dense(2), second=fnn.lift(lambda p, x: fnn.ops.dense(x, jnp.ones((3, 1))), name="bad")
        )
        with pytest.raises(fnn.InputError, match=r"in second: dense expected x of shape \(..., 3\)"):
            fnn.summary(bad, (1, 4))

    @pytest.mark.long
    def test_500_layers_share_programs_and_are_traced_once(self):
        # Seconds are measured by `python -m benchmarks.studies.startup`; here is what they are made of.
        traces = []

        def dense(features):
            return fnn.dense(features, bias=False, kernel_init=he_normal())

        def norm():
            def scale(p, x):
                traces.append(x.shape)
                return x * p["scale"]

            return fnn.lift(scale, lambda k, x: {"scale": jnp.ones(x.shape[-1])}, name="norm")

        def block(c, project):
            body = fnn.serial(dense(c), norm(), relu(), dense(c), norm(), relu(), dense(4 * c), norm())
            return fnn.residual(body, fnn.serial(dense(4 * c), norm()) if project else None, relu())

        stages = zip((3, 8, 36, 3), (64, 128, 256, 512), strict=True)
        net = fnn.serial(*[block(c, i == 0) for n, c in stages for i in range(n)], dense(1000))
        jax.clear_caches()  # what other tests compiled counts, too
        with compilations() as compiled:
            params, _ = net.init(jax.random.key(0), (1, 8, 8, 64))
            text = fnn.summary(net, (1, 8, 8, 64))
        assert f"{sum(p.size for p in jax.tree.leaves(params)):,}" in text
        assert len(text.splitlines()) > 500
        assert len(traces) == 3 * 50 + 4  # once for each norm
        assert len(compiled) <= 40  # jax.nn.initializers, which compile random numbers for each shape, take 55


class TestMultiplyAdds:
    def count(self, f, *shapes):
        return multiply_adds(jax.make_jaxpr(f)(*[jnp.ones(s) for s in shapes]).jaxpr)

    def test_products(self):
        assert self.count(lambda a, b: jnp.einsum("nij,njk->nik", a, b), (2, 3, 4), (2, 4, 5)) == 2 * 3 * 4 * 5

    def test_convolutions(self):
        def conv(x, w, **options):
            return jax.lax.conv_general_dilated(x, w, dimension_numbers=("NHWC", "HWIO", "NHWC"), **options)

        one = {"window_strides": (1, 1), "padding": "VALID"}
        assert self.count(lambda x, w: conv(x, w, **one), (2, 32, 32, 3), (5, 5, 3, 6)) == 2 * 28 * 28 * 6 * 75
        grouped = self.count(lambda x, w: conv(x, w, feature_group_count=4, **one), (1, 6, 6, 8), (3, 3, 2, 12))
        assert grouped == 4 * 4 * 12 * 9 * 2
        two = {"window_strides": (1, 1), "padding": [(1, 1), (1, 1)], "lhs_dilation": (2, 2)}
        up = self.count(lambda x, w: conv(x, w, **two), (1, 3, 3, 1), (2, 2, 1, 1))
        assert up == 3 * 3 * 4  # each input meets each tap once

    def test_inside_calls_loops_and_branches(self):
        w = jnp.ones((3, 3))
        times = lambda x: jax.lax.scan(lambda c, _: (jax.jit(jnp.matmul)(c, w), None), x, length=5)[0]  # noqa: E731
        assert self.count(times, (2, 3)) == 5 * 18
        either = lambda x: jax.lax.cond(x[0, 0] > 0, lambda x: x @ w @ w, lambda x: x @ w, x)  # noqa: E731
        assert self.count(either, (2, 3)) == 2 * 18


class TestInitial:
    def test_distribution(self):
        kernel = np.asarray(he_normal()(jax.random.key(0), (3, 3, 32, 256)))
        stddev = math.sqrt(2 / (3 * 3 * 32))
        assert kernel.std() == pytest.approx(stddev, rel=0.01)
        assert abs(kernel.mean()) < 0.01 * stddev
        assert 2.2 < np.abs(kernel).max() / stddev <= 2 / 0.8796
        assert np.unique(kernel).size > 0.9 * kernel.size  # blocks differ

    def test_same_inside_a_transformation(self):
        init, key = he_normal(), jax.random.key(3)
        outside = init(key, (7, 5))
        assert_close(jax.jit(lambda key: init(key, (7, 5)))(key), outside, ulps=2)
        assert_close(jax.vmap(lambda key: init(key, (7, 5)))(key[None])[0], outside, ulps=2)

    def test_dtypes_and_empty_shapes(self):
        assert he_normal()(jax.random.key(0), (4, 2), jnp.bfloat16).dtype == jnp.bfloat16
        assert he_normal()(jax.random.key(0), (0, 2)).shape == (0, 2)


class TestActivations:
    def test_every_leaf_returns_what_it_computes(self):
        net, x = nested(), jax.random.normal(jax.random.key(1), (8, 4))
        params, state = net.init(jax.random.key(0), x)
        seen = inspect.activations(net, (params, state), x)
        stem = fnn.ops.dense(x, params["stem"]["kernel"], params["stem"]["bias"])
        assert_close(seen["stem"], stem)
        assert seen["blocks/residual/body/00_dense"].shape == (3, 8, 4)
        assert_close(seen["blocks/residual/shortcut"][0], stem)
        assert_close(seen["blocks/residual/shortcut"][1], seen["blocks/residual/after"][0])
        y, _ = net.apply(params, state, x)
        assert_close(jnp.concatenate([seen["branches/00_dense"], seen["branches/01_serial/01_relu"]], -1), y)
        assert list(seen)[:2] == ["stem", "blocks/residual/body/00_dense"]

    def test_is_pure(self):
        net, x = nested(), jnp.ones((8, 4))
        params, state = net.init(jax.random.key(0), x)
        eager = inspect.activations(net, (params, state), x)
        jitted = jax.jit(lambda pair, x: inspect.activations(net, pair, x))((params, state), x)
        assert_close(jitted, eager)

    def test_a_single_leaf(self):
        assert list(inspect.activations(relu(), ({}, {}), jnp.ones(2))) == ["relu"]


def texts(fig):
    """Everything written in a figure."""
    import matplotlib.text

    return [t.get_text() for t in fig.findobj(matplotlib.text.Text) if t.get_text() and t.get_visible()]


def visible(fig):
    return [ax for ax in fig.axes if ax.get_visible()]


class TestPlots:
    history = [  # noqa: RUF012
        {"epoch": i, "loss": 2.0 / (i + 1), "accuracy": 0.5 + 0.1 * i, "test_loss": 3.0, "test_accuracy": 0.25}
        for i in range(4)
    ]

    def test_curves(self):
        loss, accuracy = inspect.plot_curves(self.history).axes
        assert (loss.get_xlabel(), loss.get_ylabel(), accuracy.get_ylabel()) == ("epoch", "loss", "accuracy (%)")
        training, test = accuracy.lines
        np.testing.assert_allclose(training.get_ydata(), [50, 60, 70, 80])
        np.testing.assert_array_equal(training.get_xdata(), [1, 2, 3, 4])
        np.testing.assert_array_equal(test.get_ydata(), [25] * 4)
        assert [t.get_text() for t in loss.get_legend().get_texts()] == ["training", "test"]

    def test_curves_of_the_loss_alone(self):
        (axes,) = inspect.plot_curves([{"epoch": 0, "loss": 0.0}]).axes
        assert axes.get_yscale() == "linear"  # a logarithm has no zero

    def test_filters(self):
        kernel = np.random.default_rng(0).normal(size=(5, 5, 1, 6))
        *tiles, bar = visible(inspect.plot_filters(kernel))
        assert len(tiles) == 6
        largest = np.abs(kernel).max()
        assert tiles[0].images[0].get_clim() == (-largest, largest)
        np.testing.assert_array_equal(tiles[4].images[0].get_array(), kernel[:, :, 0, 4])
        assert bar.get_ylabel() == "weight"
        assert bar.get_yticklabels()[1].get_text() == "0"

    def test_filters_of_colour_have_zero_in_mid_grey(self):
        tiles = visible(inspect.plot_filters(np.zeros((3, 3, 3, 5))))
        assert len(tiles) == 5
        assert np.all(tiles[0].images[0].get_array() == 0.5)

    def test_feature_maps(self):
        maps = {"conv": np.ones((4, 4, 20)), "out": np.arange(10.0)}
        fig = inspect.plot_feature_maps(np.ones((8, 8, 1)), maps, {"conv": "convolution"})
        assert len(fig.axes) == 1 + 16 + 1
        assert {"input", "convolution", "out", "8 x 8 x 1", "4 x 4 x 20  (first 16 of 20)", "10"} <= set(texts(fig))

    def test_confusion(self):
        fig = inspect.plot_confusion([0, 0, 1, 2, 2, 2], [0, 0, 1, 2, 2, 0], classes=3)
        (axes,) = fig.axes
        assert [t.get_text() for t in axes.texts] == ["2", "1", "1", "2"]
        assert axes.get_title(loc="left") == "1 of 6 wrong (83.33 % right)"
        assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted class", "true class")
        opacity = axes.images[0].get_array()[..., 3]
        assert opacity[2, 0] == 1  # one error among many right answers is the darkest cell
        assert opacity[0, 0] < 0.2
        assert opacity[0, 1] == 0

    def test_mistakes(self):
        probabilities = np.array([[0.9, 0.1, 0.0], [0.2, 0.7, 0.1], [0.6, 0.3, 0.1], [0.05, 0.05, 0.9]])
        fig = inspect.plot_mistakes(np.ones((4, 6, 6)), np.array([0, 0, 1, 1]), probabilities, k=2)
        picture, bars = visible(fig)[:2]
        assert len(visible(fig)) == 6
        assert picture.get_title(loc="left") == "true: 1"  # probability 0.05 for the true class: the worst
        assert [t.get_text() for t in bars.get_yticklabels()] == ["2", "0"]
        assert [t.get_text() for t in bars.texts] == ["90 %", "5 %"]
        assert "The worst 3 of 3 mistakes among 4 images; the true class in blue" in texts(fig)

    def test_no_mistakes(self):
        fig = inspect.plot_mistakes(np.ones((1, 2, 2)), np.array([1]), np.array([[0.0, 1.0]]))
        assert "No mistakes among 1 images" in texts(fig)
        assert not visible(fig)

    def test_figures_can_be_saved_and_touch_nothing_global(self):
        import matplotlib
        from matplotlib import _pylab_helpers

        before = dict(matplotlib.rcParams)
        out = io.BytesIO()
        inspect.plot_curves(self.history).savefig(out, format="png")
        assert out.getvalue().startswith(b"\x89PNG")
        assert dict(matplotlib.rcParams) == before
        assert not _pylab_helpers.Gcf.figs

    def test_refuses_bad_arguments(self):
        with pytest.raises(fnn.InputError, match='rows with "epoch" and "loss"'):
            inspect.plot_curves([])
        with pytest.raises(fnn.InputError, match=r"a kernel \(h, w, C, K\); got \(3, 4\)"):
            inspect.plot_filters(np.ones((3, 4)))
        with pytest.raises(fnn.InputError, match=r"maps \(H, W, C\) or \(C,\); got \{'a': \(2, 2\)\}"):
            inspect.plot_feature_maps(np.ones((2, 2)), {"a": np.ones((2, 2))})
        with pytest.raises(fnn.InputError, match=r"classes in \[0, 2\); got \[5\]"):
            inspect.plot_confusion([0], [5], classes=2)
        with pytest.raises(fnn.InputError, match=r"labels and predictions \(N,\); got \(1,\) and \(2,\)"):
            inspect.plot_confusion([0], [0, 1])
        with pytest.raises(fnn.InputError, match=r"got \(2, 3, 3\), \(1,\), \(2, 4\); cut them alike"):
            inspect.plot_mistakes(np.ones((2, 3, 3)), np.zeros(1), np.ones((2, 4)))
        with pytest.raises(fnn.InputError, match=r"integer labels in \[0, 2\); got int64 \[0 7\]"):
            inspect.plot_mistakes(np.ones((2, 3, 3)), np.array([0, 7]), np.eye(2))
        with pytest.raises(fnn.InputError, match="1 to 512 tiles; got 4096; choose some channels"):
            inspect.plot_filters(np.ones((3, 3, 64, 64)))
        with pytest.raises(fnn.InputError, match="1 to 512 tiles; got 0"):
            inspect.plot_filters(np.ones((3, 3, 0, 4)))
        with pytest.raises(fnn.InputError, match=r"an image \(H, W\).*got \(1, 2, 2, 1\)"):
            inspect.plot_feature_maps(np.ones((1, 2, 2, 1)), {"a": np.ones((2, 2, 1))})
        with pytest.raises(fnn.InputError, match="a Layer for layer"):
            inspect.summary((1, 3), fnn.dense(2))

    def test_says_how_to_install_matplotlib(self, monkeypatch):
        real = builtins.__import__

        def without(name, *args, **kwargs):
            if name.startswith("matplotlib"):
                raise ImportError(name)
            return real(name, *args, **kwargs)

        monkeypatch.setattr(builtins, "__import__", without)
        with pytest.raises(fnn.InputError, match=r'pip install "fnn\[examples\]"'):
            inspect.plot_filters(np.ones((3, 3, 1, 2)))
