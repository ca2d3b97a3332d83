"""Pictures of gradients under test: what is on the axes."""

import io
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn.check.model.lockstep import Lockstep, Step
from fnn.check.plots import plot_errors, plot_gradient_norms, plot_lockstep, plot_steps
from tests.helpers import normal

pytest.importorskip("matplotlib")


def lines(axes):
    return {line.get_label(): line.get_data() for line in axes.lines if not line.get_label().startswith("_")}


@pytest.fixture(scope="module")
def right():
    return plot_steps(fnn.ops.gelu, normal(0, (12,)))


class TestSteps:
    def test_each_precision_reaches_its_own_floor(self, right):
        best = {label: np.nanmin(y) for label, (_, y) in lines(right.axes[0]).items()}
        assert list(best) == ["float32", "float64", "float64, extrapolated"]
        assert 1e-8 < best["float32"] < 1e-4
        assert best["float64"] < 1e-9
        assert best["float64, extrapolated"] < 1e-11

    def test_the_right_arms_have_the_order_of_the_formula(self, right):
        curves = lines(right.axes[0])
        for label, order in (("float64", 2), ("float64, extrapolated", 4)):
            h, error = curves[label]
            near = (h > 0.01) & (h < 0.1)
            slope = np.polyfit(np.log(h[near]), np.log(error[near]), 1)[0]
            assert slope == pytest.approx(order, abs=0.3)

    def test_the_minimum_is_marked_and_named(self, right):
        axes = right.axes[0]
        _, error = lines(axes)["float64"]
        marks = [line.get_ydata()[0] for line in axes.lines if line.get_marker() == "o"]
        assert np.nanmin(error) in marks
        assert f"{np.nanmin(error):.0e}" in [text.get_text() for text in axes.texts]
        assert axes.get_xscale() == axes.get_yscale() == "log"

    def test_a_wrong_gradient_stays_up(self):
        @jax.custom_vjp
        def cube(x, n, w):
            return {"y": w["w"] * x**n}

        cube.defvjp(
            lambda x, n, w: (cube(x, n, w), (x, w)),
            lambda kept, dy: (3.03 * kept[1]["w"] * kept[0] ** 2 * dy["y"], None, {"w": dy["y"] * kept[0] ** 3}),
        )
        args = (normal(0, (5,)), 3, {"w": normal(1, (5,))})
        wrong = lines(plot_steps(cube, *args).axes[0])["float64"][1]
        assert np.nanmin(wrong) > 1e-4
        figure = plot_steps(cube, *args, leaf=1)
        assert np.nanmin(lines(figure.axes[0])["float64"][1]) < 1e-9
        assert figure.axes[0].get_title("left") == "The gradient of argument 2/w"

    def test_refuses_leaves_that_are_not_there(self):
        with pytest.raises(fnn.InputError, match="got leaf=1 of 1; count from 0"):
            plot_steps(jnp.sin, np.ones(3, np.float32), leaf=1)
        with pytest.raises(fnn.InputError, match="got leaf=0 of 0"):
            plot_steps(jnp.sin, 3)


class TestErrors:
    def test_averages_over_batch_and_channels_and_marks_the_worst(self):
        true = np.ones((2, 5, 6, 3))
        hand = true.copy()
        hand[1, 4, 2, 0] = 4.0
        hand[:, 0] += 1e-3
        figure = plot_errors(hand, true, title="dx")
        first, second, third = figure.axes[:3]
        shown = np.asarray(third.images[0].get_array())
        assert shown.shape == (5, 6)
        assert shown[4, 2] == pytest.approx(3 / 6)
        np.testing.assert_allclose(shown[0], 1e-3, rtol=1e-6)
        assert shown[2, 2] == 1e-8  # no error at all: the palest colour
        np.testing.assert_allclose(np.asarray(first.images[0].get_array())[4, 2], (5 + 4) / 6)
        np.testing.assert_allclose(np.asarray(second.images[0].get_array()), 1.0)
        assert [line.get_data() for line in third.lines] == [([2], [4])]
        assert third.get_xlabel() == "largest: 3 at [1, 4, 2, 0]"

    def test_noise_is_pale_and_a_tenth_is_red(self):
        true = np.ones((2, 2))
        image = plot_errors(true + np.array([[1e-7, 1e-1], [np.nan, 0]]), true).axes[2].images[0]
        rgba = image.cmap(image.norm(image.get_array()))
        red, green, blue = np.moveaxis(np.asarray(rgba), -1, 0)[:3]
        assert min(red[0, 0], green[0, 0], blue[0, 0]) > 0.85
        assert red[0, 1] > 0.7
        assert max(green[0, 1], blue[0, 1]) < 0.35
        assert max(red[1, 0], green[1, 0], blue[1, 0]) < 0.2  # nan is black

    def test_kernels_have_their_window_in_front(self):
        true = np.ones((3, 5, 2, 7))
        hand = true.copy()
        hand[2, 4, 1, 6] = 0
        third = plot_errors(hand, true, kind="kernel").axes[2]
        assert third.images[0].get_array().shape == (3, 5)
        assert [line.get_data() for line in third.lines] == [([4], [2])]
        assert plot_errors(hand[..., 0], true[..., 0]).axes[2].images[0].get_array().shape == (3, 5)

    def test_refuses_other_shapes(self):
        with pytest.raises(fnn.InputError, match=r"got \(3,\) and \(3,\)"):
            plot_errors(np.ones(3), np.ones(3))
        with pytest.raises(fnn.InputError, match=r"got \(3, 2\) and \(2, 3\); pass one gradient of each way"):
            plot_errors(np.ones((3, 2)), np.ones((2, 3)))
        with pytest.raises(fnn.InputError, match='kind "images" or "kernel"; got \'weights\''):
            plot_errors(np.ones((3, 2)), np.ones((3, 2)), kind="weights")


class TestGradientNorms:
    def test_norms_in_the_order_of_the_layers(self):
        params = {"z": {"kernel": 0.0}, "a": [0.0, 0.0]}
        grads = {"a": [jnp.array([3.0, 4.0]), jnp.zeros(2)], "z": {"kernel": jnp.full((4,), 1e-3)}}
        axes = plot_gradient_norms(grads, grads, params=params).axes[0]
        assert [text.get_text() for text in axes.get_yticklabels()] == ["z/kernel", "a/0", "a/1"]
        curves = lines(axes)
        assert list(curves) == ["by hand", "automatic"]
        np.testing.assert_allclose(curves["by hand"][0][:2], [2e-3, 5.0], rtol=1e-6)
        np.testing.assert_array_equal(curves["by hand"][1], [0, 1, 2])
        assert "0" in [text.get_text() for text in axes.texts]  # the norm of a/1 has no place on the axis
        assert axes.get_xscale() == "log"
        assert axes.get_ylim()[0] > axes.get_ylim()[1]  # the input on top

    def test_takes_an_audit(self):
        rows = [("conv", 2.0), ("relu", None), ("out", 1.0)]
        audit = SimpleNamespace(rows=[SimpleNamespace(path=path, gradient=norm) for path, norm in rows])
        axes = plot_gradient_norms(audit).axes[0]
        np.testing.assert_array_equal(lines(axes)["gradient"], [[2.0, 1.0], [0, 1]])

    def test_refuses_other_trees(self):
        with pytest.raises(fnn.InputError, match="a tree of gradients; got an empty one"):
            plot_gradient_norms({})
        with pytest.raises(fnn.InputError, match=r"the same paths in auto; got \['a', 'b'\] in one alone"):
            plot_gradient_norms({"a": np.ones(1)}, {"b": np.ones(1)})


class TestLockstepPicture:
    def result(self, shares):
        steps = [Step(i, 1.0, 2e-7 * i, 1e-7 * i, "w", share, 0.0, 0.0, 0.0) for i, share in enumerate(shares, 1)]
        return Lockstep(tuple(steps), "order", 30.0, next((s.step for s in steps if not s.together), None))

    def test_distance_floor_and_limit(self):
        top, bottom = plot_lockstep(self.result([0.1, 0.2, 0.3])).axes
        np.testing.assert_allclose(lines(top)["noise floor"], [[1, 2, 3], [1e-7, 2e-7, 3e-7]])
        np.testing.assert_allclose(lines(top)["hand - automatic"], [[1, 2, 3], [2e-7, 4e-7, 6e-7]])
        np.testing.assert_allclose(bottom.lines[0].get_ydata(), [0.1, 0.2, 0.3])
        assert top.get_yscale() == bottom.get_yscale() == "log"
        assert top.get_title("left") == "In lockstep over 3 steps"

    def test_says_where_they_part_and_can_be_saved(self):
        figure = plot_lockstep(self.result([0.1, 20.0, 30.0]))
        assert figure.axes[0].get_title("left") == "Apart from step 2 on, first in w"
        assert list(figure.axes[0].lines[-1].get_xdata()) == [2, 2]
        out = io.BytesIO()
        figure.savefig(out, format="png")
        assert out.getvalue().startswith(b"\x89PNG")
