"""Pictures of gradients under test; each is a matplotlib Figure to save or show."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from fnn.check.arrays import is_float, path_of, split
from fnn.check.differences import sweeper
from fnn.check.model.lockstep import Lockstep
from fnn.core.alive import of_live_arrays
from fnn.core.errors import require
from fnn.inspect.style import BLUE, COLUMN, FAINT, INK, PAGE, RED, figure

# Step sizes of the V, in units of the array's rms: five a decade, from where every function bends to where float64 is
# nothing but rounding.
_STEPS = np.geomspace(1.0, 1e-10, 51)
# Colours of relative errors: what rounding leaves is pale, a tenth and more is red.
_LEAST, _MOST = 1e-8, 1.0
_PAPER = {"fc": "white", "ec": "none", "pad": 0.3, "alpha": 0.8}  # under a number that may meet a line
_ROW, _TALLEST, _MOST_LABELS = 0.15, 12.0, 80


@of_live_arrays
def plot_steps(f: Callable, *args: Any, leaf: int = 0, seed: int = 0) -> Any:
    """The V of error against step size: finite differences of f along one direction, held against its gradient.

    On the right curvature makes the error, on the left rounding; where no curve comes down to the rounding errors of
    its precision, the gradient is wrong. With v a direction of +-1 in one array, u a cotangent of +-1 and
    g(x) = <u, f(x)>, the error at step h is

        |(g(x + h v) - g(x - h v)) / 2h - <dg/dx, v>| / |dg/dx|

    in float32, in float64, and in float64 with Richardson's extrapolation (`fnn.check.differences`); dg/dx is what
    `jax.vjp` of f says in float64.

    Args:
      f: any function of arrays that returns arrays, in the precision of its arguments.
      *args: where to look, trees of arrays; integers and keys are held fixed.
      leaf: which of the floating-point arrays among the arguments to move, counted from 0.
      seed: of v and u.

    Raises:
      InputError: no such array, or an empty one.
    """
    floats = [(path_of(place), a) for place, a in jax.tree_util.tree_leaves_with_path(args) if is_float(a)]
    ok = isinstance(leaf, int) and 0 <= leaf < len(floats) and np.size(floats[leaf][1]) > 0
    got = f"leaf={leaf!r} of {len(floats)}"
    require(ok, "plot_steps", "the number of a floating-point array that is not empty", got, "count from 0")
    path, x = floats[leaf][0], np.asarray(floats[leaf][1], np.float64)
    steps = _STEPS * (float(np.sqrt(np.mean(x**2))) or 1.0)
    with jax.enable_x64(True):
        slopes, slope, norm = _slopes(f, args, leaf, steps, np.random.default_rng(seed))
    ratio = (steps[0] / steps[1]) ** 2
    curves = {
        "float32": (steps, slopes["float32"], FAINT),
        "float64": (steps, slopes["float64"], BLUE),
        "float64, extrapolated": (
            steps[1:],
            (ratio * slopes["float64"][1:] - slopes["float64"][:-1]) / (ratio - 1),
            RED,
        ),
    }
    with figure(COLUMN, 2.7) as fig:
        axes = fig.subplots()
        for label, (h, numeric, color) in curves.items():
            error = np.abs(numeric - slope) / (norm or 1.0)
            error = np.where(error > 0, error, np.nan)  # an exact hit has no place on a logarithmic axis
            axes.loglog(h, error, color=color, label=label, lw=1.1)
            if np.isfinite(error).any():
                best = np.nanargmin(error)
                axes.plot(h[best], error[best], "o", color=color, ms=4)
                _note(axes, f"{error[best]:.0e}", (h[best], error[best]), (-4, -8), color, ha="right")
        axes.margins(y=0.12)
        axes.set(xlabel="step size h", ylabel="error of finite differences" + (", relative" if norm else ""))
        axes.set_title(f"The gradient of argument {path}")
        axes.grid(color=FAINT, alpha=0.2, lw=0.4)
        axes.legend(frameon=False, fontsize=7, loc="upper center", ncols=3, columnspacing=1.0, handlelength=1.2)
        return fig


def _slopes(
    f: Callable, args: tuple, leaf: int, steps: np.ndarray, random: np.random.Generator
) -> tuple[dict[str, np.ndarray], float, float]:
    """Central differences by dtype, the slope along v that the gradient says, and the norm of the gradient."""
    floats, join = split(args)
    v = random.choice([-1.0, 1.0], np.shape(floats[leaf]))
    directions = tuple((v if i == leaf else np.zeros(np.shape(a)))[None] for i, a in enumerate(floats))

    def flat(floats: tuple) -> tuple:
        return tuple(jax.tree.leaves(f(*join(floats))))

    y, back = jax.vjp(flat, tuple(jnp.asarray(a, "float64") for a in floats))
    weights = [random.choice([-1.0, 1.0], a.shape) for a in y]
    gradient = np.asarray(back(tuple(jnp.asarray(w, a.dtype) for w, a in zip(weights, y, strict=True)))[0][leaf])
    slopes, along = {}, sweeper(flat)
    for dtype in ("float32", "float64"):
        values = along(tuple(jnp.asarray(a, dtype) for a in floats), directions, np.concatenate([steps, -steps])[None])
        parts = [
            (w * np.asarray(a[0], np.float64)).reshape(2, len(steps), -1) for w, a in zip(weights, values, strict=True)
        ]
        forward, backward = sum(part.sum(-1) for part in parts)
        slopes[dtype] = (forward - backward) / (2 * steps)
    return slopes, float(np.sum(gradient * v)), float(np.linalg.norm(gradient))


@of_live_arrays
def plot_errors(hand: Any, true: Any, *, kind: Literal["images", "kernel"] = "images", title: str = "") -> Any:
    """Where a gradient is wrong: |hand|, |true| and |hand - true| in units of rms(true), averaged over channels.

    A wrong border, corner, stride or flip shows as its own shape. The circle marks the largest single difference.

    Args:
      hand, true: gradients of images (N, H, W, C), (H, W, C) or (H, W), or of a kernel (h, w, C, K).
      kind: which of the two an array of rank 4 is.
      title: above the panels.

    Raises:
      InputError: other ranks, two shapes, no entries, or another kind.
    """
    hand, true = np.asarray(hand, np.float64), np.asarray(true, np.float64)
    require(kind in ("images", "kernel"), "plot_errors", 'kind "images" or "kernel"', repr(kind), "choose one")
    ok = hand.shape == true.shape and 2 <= hand.ndim <= 4 and hand.size > 0
    wanted = "two arrays (N, H, W, C), (H, W, C), (H, W) or (h, w, C, K)"
    require(ok, "plot_errors", wanted, f"{hand.shape} and {true.shape}", "pass one gradient of each way")
    rows = 1 if hand.ndim == 4 and kind == "images" else 0
    others = tuple(axis for axis in range(hand.ndim) if axis not in (rows, rows + 1))
    with np.errstate(invalid="ignore"):
        rms = float(np.sqrt(np.mean(true**2))) or 1.0
        error = np.abs(hand - true) / rms
        panels = [np.mean(np.abs(a) / rms, others) for a in (hand, true)]
        worst = np.unravel_index(np.argmax(np.where(np.isnan(error), np.inf, error)), error.shape)
    shown = error.mean(others)
    height = min(3.2, max(0.8, 1.75 * shown.shape[0] / shown.shape[1]))
    with figure(PAGE, height + (0.85 if title else 0.65)) as fig:
        from matplotlib.colors import LinearSegmentedColormap, LogNorm

        axes = fig.subplots(1, 3)
        gray = {"cmap": "gray_r", "vmin": 0.0, "vmax": max(np.nanmax(panels[1]), 1e-300)}
        for ax, picture, name in zip(axes, panels, ("hand", "true"), strict=False):
            image = ax.imshow(picture, **gray)
            ax.set_title(f"|{name}| / rms(true)")
            _bar(ax, image)
        colors = [
            (0.0, "white"),
            (0.25, "#d7e3ef"),
            (0.42, "#8fb0d0"),
            (0.56, "#f3dfae"),
            (0.72, "#e3a34c"),
            (0.875, RED),
            (1.0, "#6b1406"),
        ]
        scale = LinearSegmentedColormap.from_list("errors", colors).with_extremes(bad=INK)
        image = axes[2].imshow(np.where(shown < _LEAST, _LEAST, shown), cmap=scale, norm=LogNorm(_LEAST, _MOST))
        axes[2].set_title("|hand - true| / rms(true)")
        ring = {"mfc": "none", "mec": INK, "mew": 1.0, "ms": 8}
        axes[2].plot(worst[rows + 1], worst[rows], "o", **ring)
        at = ", ".join(map(str, worst))
        axes[2].set_xlabel(f"largest: {error[worst]:.2g} at [{at}]", fontsize=7)
        bar = _bar(axes[2], image)
        bar.set_ticks([1e-8, 1e-6, 1e-4, 1e-2, 1.0])
        for ax in axes:
            ax.set_xticks(_ticks(shown.shape[1]))
            ax.set_yticks(_ticks(shown.shape[0]))
            ax.spines[["top", "right"]].set_visible(True)
        if title:
            fig.suptitle(title, x=0.01, ha="left", fontsize=8)
        return fig


def _bar(ax: Any, image: Any) -> Any:
    """A colour bar as high as the picture."""
    bar = ax.figure.colorbar(image, cax=ax.inset_axes([1.04, 0, 0.05, 1]))
    bar.outline.set_linewidth(0)
    return bar


def _ticks(n: int) -> list[int]:
    return sorted({0, n // 2, n - 1})


@of_live_arrays
def plot_gradient_norms(hand: Any, auto: Any = None, *, params: Any = None) -> Any:
    """The norm of the gradient of every parameter, from the input to the output: does it fade or explode with depth?

    Args:
      hand: a tree of gradients, or an `Audit`: a norm a layer that has parameters.
      auto: the same by automatic differentiation, drawn as rings around the points.
      params: as `init` returned them: their dicts still have the order of the layers, which `jax.grad` sorts by name.

    Raises:
      InputError: no gradients, or two trees of different paths.
    """
    norms = _norms(hand)
    require(len(norms) > 0, "plot_gradient_norms", "a tree of gradients", "an empty one", "pass what jax.grad returned")
    others = None if auto is None else _norms(auto)
    for name, tree in (("auto", others), ("params", None if params is None else _norms(params))):
        same = tree is None or set(tree) == set(norms)
        got = sorted(set(tree or {}) ^ set(norms))
        require(same, "plot_gradient_norms", f"the same paths in {name}", f"{got} in one alone", "pass one model's")
    paths = list(norms if params is None else _norms(params))
    finite = [n for tree in (norms, others or {}) for n in tree.values() if np.isfinite(n) and n > 0]
    low, high = (min(finite), max(finite)) if finite else (1.0, 1.0)
    left = low / 10  # where zeros and nan are drawn
    with figure(COLUMN, min(_TALLEST, _ROW * len(paths) + 0.8)) as fig:
        axes = fig.subplots()
        places = np.arange(len(paths))
        drawn = [norms[p] if np.isfinite(norms[p]) and norms[p] > 0 else left for p in paths]
        odd = [i for i, p in enumerate(paths) if not (np.isfinite(norms[p]) and norms[p] > 0)]
        axes.hlines(places, left / 2, drawn, color=FAINT, alpha=0.35, lw=0.5)
        axes.plot(drawn, places, "o", color=BLUE, ms=3.5, label="by hand" if others else "gradient")
        for i in odd:
            axes.plot(left, i, "x", color=RED, ms=4)
            _note(axes, f"{norms[paths[i]]:g}", (left, i), (5, 0), RED, va="center")
        if others:
            rings = [others[p] if np.isfinite(others[p]) and others[p] > 0 else left for p in paths]
            axes.plot(rings, places, "o", mfc="none", mec=RED, ms=6.5, mew=0.8, label="automatic")
            axes.legend(frameon=False, fontsize=7, loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderpad=0)
        axes.set_xscale("log")
        axes.set_xlim(left / 2, high * 3)
        every = -(-len(paths) // _MOST_LABELS)
        axes.set_yticks(places[::every], paths[::every], fontsize=7 if len(paths) <= _MOST_LABELS // 2 else 6)
        axes.set_ylim(len(paths) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("norm of the gradient")
        return fig


def _norms(tree: Any) -> dict[str, float]:
    """Norm by path, in the order in which dicts were filled."""
    if hasattr(tree, "rows"):
        return {row.path: row.gradient for row in tree.rows if row.gradient is not None}
    found: dict[str, float] = {}

    def walk(node: Any, path: tuple) -> None:
        children: Iterable[tuple[Any, Any]]
        if isinstance(node, Mapping):
            children = node.items()
        elif isinstance(node, list | tuple):
            children = enumerate(node)
        else:
            if node is not None:
                found["/".join(path)] = float(np.linalg.norm(np.asarray(node, np.float64)))
            return
        for name, child in children:
            walk(child, (*path, str(name)))

    walk(tree, ())
    return found


def plot_lockstep(result: Lockstep) -> Any:
    """How far training by hand and automatic training are apart, step by step, against the floor of rounding.

    Above the distance of the parameters and the noise floor; below how much of its limit the worst parameter uses.

    Args:
      result: what `fnn.check.lockstep` returned.
    """
    steps = [step.step for step in result.steps]
    with figure(COLUMN, 3.1) as fig:
        top, bottom = fig.subplots(2, 1, sharex=True, height_ratios=[2, 1])
        marker = "o" if len(steps) < 3 else ""
        floor, distance = (_positive([getattr(step, name) for step in result.steps]) for name in ("floor", "distance"))
        top.plot(steps, floor, color=FAINT, alpha=0.6, lw=3.5, label="noise floor", marker=marker)
        top.plot(steps, distance, color=BLUE, label="hand - automatic", marker=marker, ms=3)
        top.set(yscale="log", ylabel="relative distance")
        top.legend(frameon=False, fontsize=7)
        bottom.plot(steps, _positive([step.share for step in result.steps]), color=BLUE, marker=marker, ms=3)
        bottom.axhline(1.0, color=RED, lw=0.8)
        edge = bottom.get_yaxis_transform()
        bottom.text(1.0, 1.0, "limit", color=RED, fontsize=7, va="bottom", ha="right", transform=edge)
        bottom.set(yscale="log", ylabel="used of limit", xlabel="step")
        bottom.xaxis.get_major_locator().set_params(integer=True)
        where = None if result.apart is None else result.steps[result.apart - 1]
        apart = f"Apart from step {result.apart} on, first in {where.worst}" if where is not None else ""
        top.set_title(apart or f"In lockstep over {len(steps)} steps", color=RED if where is not None else INK)
        for axes in (top, bottom):
            axes.grid(axis="y", color=FAINT, alpha=0.2, lw=0.4)
        if where is not None:
            for axes in (top, bottom):
                axes.axvline(result.apart, color=RED, lw=0.6, ls=":")
        return fig


def _note(axes: Any, text: str, at: tuple, shift: tuple, color: str, **align: str) -> None:
    axes.annotate(text, at, shift, textcoords="offset points", fontsize=6.5, color=color, bbox=_PAPER, **align)


def _positive(values: list[float]) -> list[float]:
    return [v if v > 0 else np.nan for v in values]
