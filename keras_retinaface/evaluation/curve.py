"""Curves as PNG and CSV: precision over recall, cumulative errors, ROC. Computes none of them."""

from __future__ import annotations

import csv
import os
import pathlib
from collections.abc import Mapping

import numpy as np

from keras_retinaface import atomic
from keras_retinaface.evaluation import wider_face


def write_precision_recall(
    directory: str | os.PathLike, curves: Mapping[str, wider_face.Curve], *, title: str = "WIDER FACE"
) -> list[pathlib.Path]:
    """Writes `precision_recall.csv` and `precision_recall.png`.

    Args:
        directory: made when missing.
        curves: curves by subset, as from `wider_face.precision_recall`.
        title: title of the picture.

    Returns:
        The paths written.
    """
    rows = [
        (subset, threshold, precision, recall)
        for subset, curve in curves.items()
        for threshold, precision, recall in zip(wider_face.THRESHOLDS, curve.precision, curve.recall)
    ]
    lines = {
        legend(subset, wider_face.average_precision(curve)): (curve.recall, curve.precision)
        for subset, curve in curves.items()
    }
    table = write_csv(pathlib.Path(directory, "precision_recall.csv"), "subset threshold precision recall", rows)
    picture = write_png(table.with_suffix(".png"), lines, title=title, labels=("recall", "precision"))
    return [table, picture]


def legend(name: str, average_precision: float) -> str:
    """Returns "name (0.914)": truncated, not rounded, as the official legends are."""
    return f"{name} ({np.floor(average_precision * 1000) / 1000:.3f})"


def write_csv(path: str | os.PathLike, header: str, rows) -> pathlib.Path:
    """Writes a table.

    Args:
        path: path of the file; its directory is made when missing.
        header: names of the columns, separated by blanks.
        rows: sequences of values; NaN becomes an empty field.

    Returns:
        The path.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic.file(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header.split())
        for row in rows:
            writer.writerow(["" if isinstance(value, float) and np.isnan(value) else value for value in row])
    return path


def write_png(
    path: str | os.PathLike,
    lines: Mapping[str, tuple[np.ndarray, np.ndarray]],
    *,
    title: str,
    labels: tuple[str, str],
    limits: tuple[float, float] = (1.0, 1.0),
) -> pathlib.Path:
    """Draws curves.

    Args:
        path: path of the PNG; its directory is made when missing.
        lines: legend -> (x, y), float `[n]` each.
        title: text above the picture.
        labels: names of the x and y axes.
        limits: ends of the x and y axes, which start at 0.

    Returns:
        The path.
    """
    # Half a second to import, and only who draws needs it. The classes, not pyplot: no display, no global state.
    from matplotlib.backends import backend_agg
    from matplotlib.figure import Figure

    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure = Figure(figsize=(6, 6), layout="tight")
    axes = figure.add_subplot(xlim=(0, limits[0]), ylim=(0, limits[1]), xlabel=labels[0], ylabel=labels[1], title=title)
    for label, (x, y) in lines.items():
        axes.plot(x, y, label=label)
    axes.grid(True, alpha=0.4)
    if lines:
        axes.legend(loc="lower left")
    with atomic.file(path) as partial:
        backend_agg.FigureCanvasAgg(figure).print_png(str(partial))
    return path
