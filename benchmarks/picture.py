"""The picture of README: a pair at α too small, inferred and too large, with overlap against α.

    python benchmarks/picture.py --data FOLDER --pairs 1006-1010

Rows of the sweep are kept in a table, so that the picture is redrawn without them; the images are
registered again.
"""

import argparse
from pathlib import Path

import brains
import numpy as np
import tables
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator
from rivals import mean_dice

import fourierreg
from fourierreg.backend import to_numpy
from fourierreg.plotting.views import middle_plane, show_grid

TABLE = "picture.csv"
OUT = Path(__file__).parents[1] / "docs" / "picture.png"
ALPHAS = (0.05, 0.3, 1.0, 2.5, 6.0, 15.0, 50.0, 200.0, 1000.0, 5000.0)
SHOWN = (0.05, None, 1000.0)  # α of the panels; None is the one that is inferred
TITLES = ("α too small", "α inferred", "α too large")
COLORS = ("#CC79A7", "#D55E00", "#0072B2")
AXIS = 2  # normal of the plane that is shown


def registered(pair, alpha):
    """Registration at an α, or at the one that is inferred."""
    (source, _, spacing), (target, _, _) = pair
    if alpha is None:
        return fourierreg.map_alpha(source, target, spacing=spacing)
    return fourierreg.register(source, target, spacing=spacing, alpha=alpha, quality="default")


def row(name, pair, alpha):
    """Row of the table."""
    (_, labels, spacing), (_, truth, _) = pair
    result = registered(pair, alpha)
    interval = result.alpha_interval or (np.nan, np.nan)
    warped = fourierreg.warp(labels, to_numpy(result.displacement), spacing, order=0)
    return {
        "pair": name,
        "kind": "inferred" if alpha is None else "given",
        "alpha": f"{result.alpha:.3f}",
        "low": f"{interval[0]:.3f}",
        "high": f"{interval[1]:.3f}",
        "dice": f"{mean_dice(warped, truth):.4f}",
        "min_jacobian": f"{float(result.jacobian_determinant.min()):.3f}",
    }


def draw(name, pair):
    """Draw the picture from the table and the registrations of its panels."""
    rows = [r for r in tables.read(TABLE) if r["pair"] == name]
    (source, labels, spacing), (target, truth, _) = pair
    figure = Figure(figsize=(12, 6.2), layout="constrained")
    upper, lower = figure.subfigures(2, 1, height_ratios=[1, 0.85])
    panels = upper.subplots(1, 5)
    style = {"cmap": "gray", "origin": "lower", "vmin": 0, "vmax": 1}
    for ax, image, title in ((panels[0], source, "source"), (panels[4], target, "target")):
        ax.imshow(middle_plane(image, AXIS), **style)
        ax.set_title(title)
    for ax, alpha, title, color in zip(panels[1:4], SHOWN, TITLES, COLORS, strict=True):
        result = registered(pair, alpha)
        ax.imshow(middle_plane(result.deformed, AXIS), **style)
        show_grid(ax, result.displacement, spacing, axis=AXIS, color=color)
        ax.set_title(f"{title}: {float(f'{result.alpha:.3g}'):g}", color=color)
    for ax in panels:
        ax.set(xticks=[], yticks=[])
    overlap(lower.subplots(), rows, mean_dice(labels, truth))
    figure.savefig(OUT, dpi=110)
    print(f"written to {OUT}")


def overlap(ax, rows, before):
    """Plot Dice against α, with the inferred α and its interval."""
    given = sorted((float(r["alpha"]), float(r["dice"])) for r in rows if r["kind"] == "given")
    ax.plot(*zip(*given, strict=True), "o-", color="0.4", label="registered at a given α")
    found = next(r for r in rows if r["kind"] == "inferred")
    low, alpha, high, dice = (float(found[key]) for key in ("low", "alpha", "high", "dice"))
    ax.axvspan(low, high, color=COLORS[1], alpha=0.18, label="95 % interval of the inferred α")
    ax.plot(alpha, dice, "*", markersize=16, color=COLORS[1], label="inferred from the two images")
    ax.axhline(before, linestyle=":", color="0.4")
    ax.annotate("affine only", (given[0][0], before), xytext=(0, 4), textcoords="offset points")
    for shown, color in zip(SHOWN, COLORS, strict=True):
        for value, overlap_there in given:
            if value == shown:
                ax.plot(value, overlap_there, "o", markersize=9, color=color)
    ax.set(xscale="log", xlabel="regularization strength α", ylabel="overlap of labels (mean Dice)")
    ax.xaxis.set_major_locator(LogLocator(numticks=10))
    ax.legend(loc="center left")
    ax.spines[["top", "right"]].set_visible(False)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    brains.add_arguments(parser)
    parser.set_defaults(pairs=["1006-1010"])
    options = parser.parse_args()
    for name, *pair in brains.pairs(options):
        for alpha in (*ALPHAS, None):
            key = {"kind": "inferred"} if alpha is None else {"alpha": f"{alpha:.3f}"}
            if not tables.has(TABLE, pair=name, **key):
                tables.append(TABLE, row(name, pair, alpha))
        draw(name, pair)


if __name__ == "__main__":
    main()
