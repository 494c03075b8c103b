"""The flags of `detector.Detector`, for every script that builds one. Only scripts may import this."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from absl import flags

from keras_retinaface import config, pixel_limit, program
from keras_retinaface.inference import detector, runtime, view


def define(
    *, score_threshold: float = config.Detection.score_threshold, max_faces: int = config.Detection.max_faces
) -> tuple[Callable[..., detector.Detector], Callable[[], dict]]:
    """Defines the flags.

    Args:
        score_threshold: default of `--score_threshold`.
        max_faces: default of `--max_faces`.

    Returns:
        A function that builds the detector which the parsed flags describe from a model (`mesh`: one that gives meshes
        too), and one that returns those of their values that change what is found, by name.
    """
    found_by = {
        "score_threshold": flags.DEFINE_float(
            "score_threshold", score_threshold, "Detections under this score are dropped."
        ),
        "iou_threshold": flags.DEFINE_float(
            "iou_threshold", config.Detection.iou_threshold, "Of two detections that overlap more, the better stays."
        ),
        "max_faces": flags.DEFINE_integer("max_faces", max_faces, "Most faces an image."),
        "min_face": flags.DEFINE_float(
            "min_face", 0.0, "Faces whose shorter side is under this many pixels are dropped."
        ),
        "image_size": flags.DEFINE_string(
            "image_size",
            view.ORIGINAL,
            "What the network sees: `original`, `SHORT,LONG` sides, or the LONG side; pixels. Over 640 smaller views "
            "are added, for larger faces.",
        ),
        "scales": flags.DEFINE_list(
            "scales", [], "Short sides in pixels to look at in turn, and no others, e.g. 500,800,1100,1400,1700."
        ),
        "flip": flags.DEFINE_bool("flip", False, "Look at mirrored images too."),
        "voting": flags.DEFINE_bool(
            "voting", False, "Average a face over scales, flips and tiles instead of taking the best."
        ),
        "voting_iou": flags.DEFINE_float(
            "voting_iou",
            config.Detection.voting_iou,
            "Within one picture, average the boxes that overlap the best one of a face by this or more: 0.5 fits small "
            "faces better. 0 takes the best one. Of an exported model, its export decides.",
        ),
        "tile": flags.DEFINE_integer("tile", None, "Cut images larger than this into overlapping tiles; pixels."),
    }
    flags.DEFINE_integer("num_threads", None, "Threads of the network; all for TensorFlow, one for LiteRT.")
    program.group("What is found", [*found_by, "num_threads"])

    def settings() -> dict:
        return {name: flag.value for name, flag in found_by.items()}

    def make_detector(model: str, *, mesh: bool = False) -> detector.Detector:
        return detector.Detector(model, **arguments(mesh=mesh))

    return make_detector, settings


def arguments(*, mesh: bool = False) -> dict:
    """Returns the arguments of the `Detector` that the parsed flags describe, for a process that opens it itself.

    Raises:
        ValueError: if a flag has no effect, or its value is none.
    """
    values = flags.FLAGS.flag_values_dict()
    check_used(not values["scales"], "must stand without --scales", ["image_size"])
    return {
        **{name: values[name] for name in ("score_threshold", "iou_threshold", "max_faces", "tile", "min_face")},
        **{name: values[name] for name in ("voting_iou", "num_threads")},
        "image_size": view.parse_size(values["image_size"]),
        "scales": [int(side) for side in values["scales"]],
        "use_flip": values["flip"],
        "use_voting": values["voting"],
        "mesh": mesh,
    }


def define_max_pixels(what: str = "Images") -> flags.FlagHolder:
    """Defines `--max_pixels`, for `image_file.read`; `what` says of which images."""
    return flags.DEFINE_integer(
        "max_pixels",
        None,
        f"{what} of more pixels are refused before they take memory. By default {pixel_limit.SMALL_PIXELS:,}, "
        f"or {pixel_limit.PIXELS_PER_BYTE} a byte of the file where that is more, at most {pixel_limit.MAX_PIXELS:,}.",
        lower_bound=1,
    )


def define_model(default: str | None) -> flags.FlagHolder:
    """Defines `--model`."""
    return flags.DEFINE_string("model", default, f"{runtime.KINDS[0].upper()}{runtime.KINDS[1:]}.")


def check_used(is_used: bool, needs: str, names: Iterable[str | flags.FlagHolder]) -> None:
    """Makes sure that flags that would have no effect were not given.

    Args:
        is_used: whether they have one.
        needs: said of them where not, as "needs --mesh".
        names: flags, or their names.

    Raises:
        ValueError: if one was given that has none, with a value that is more than off; names it.
    """
    if is_used:
        return
    for name in names:
        flag = flags.FLAGS[name if isinstance(name, str) else name.name]
        if flag.present and flag.value not in (None, False, "", []):
            raise ValueError(f"--{flag.name} {needs} to have an effect. Received: --{flag.name}={flag.value}")
