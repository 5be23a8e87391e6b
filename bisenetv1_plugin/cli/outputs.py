"""The outputs of `infer`: their flags, the checks of these, and the sinks that write and show the results."""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, Any

from bisenetv1_plugin.cli import flags, results
from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.inference.pyarrow_files import hide_secret

if TYPE_CHECKING:
    from bisenetv1_plugin.inference.engine import SegmentedPicture
    from bisenetv1_plugin.inference.exported_model import Export
    from bisenetv1_plugin.inference.overlay_window import OverlayWindow
    from bisenetv1_plugin.inference.region_files import RegionFiles
    from bisenetv1_plugin.inference.sources import Pictures, Source
    from bisenetv1_plugin.inference.video_writer import OverlayVideo


def add_arguments(parser: ArgumentParser) -> None:
    results.add_argument(parser)
    parser.add_argument(
        "--overlay", action="store_true", help="also write the image with the mask over it and a legend"
    )
    parser.add_argument(
        "--save_video", action="store_true", help="write one video, NAME_overlay.mp4, of a video or camera"
    )
    parser.add_argument("--show", action="store_true", help="show a video or camera in a window; q or Esc ends it")
    parser.add_argument(
        "--save_masks",
        type=flags.boolean,
        metavar="BOOL",
        help="write the masks, NAME.png; default True, but with --save_video, --show, --save_regions or a camera only "
        "with --overlay",
    )
    parser.add_argument(
        "--save_confidence",
        action="store_true",
        help="also write confidence/NAME.png, gray: the probability of the mask's class, 0 to 255",
    )
    parser.add_argument(
        "--unknown_below",
        type=flags.probability,
        metavar="P",
        help="set pixels to 255 (unknown) in the mask if the probability of their class is below P, 0 to 1",
    )
    parser.add_argument(
        "--save_regions",
        choices=["labelme", "coco", "geojson"],
        help="write the outlines of the connected regions: a file per picture (labelme, geojson) or one in all (coco)",
    )
    parser.add_argument(
        "--min_area", type=flags.positive, help="with --save_regions: pixels of the smallest region, default 1"
    )
    parser.add_argument(
        "--tolerance",
        type=flags.tolerance,
        help="with --save_regions: pixels by which simplified outlines may differ, 0: exact; default 1, coco 0",
    )
    parser.add_argument(
        "--skip_existing",
        action="store_true",
        help="skip the pictures that an earlier run has finished, to continue after a stop",
    )


class Outputs:
    """The outputs that the flags of `add_arguments` ask for.

    Args:
        args: the command's flags.
        source: the pictures, or a part of them in a Ray actor.

    Attributes:
        sinks: all receivers of masks; filled by `open`.
        video, window, regions: the video, the window and the regions among them, or None.

    Raises:
        InputError: these outputs are impossible for this source, or there would be no output.
    """

    def __init__(self, args: Namespace, source: Pictures) -> None:
        self._args, self._source = args, source
        self.sinks: list[Any] = []
        self.video: OverlayVideo | None = None
        self.window: OverlayWindow | None = None
        self.regions: RegionFiles | None = None
        self._figures: results.JsonFigures | None = None
        self._unknown: _UnknownCounter | None = None
        self._skipped = 0
        if (args.save_video or args.show) and not source.frames:
            shown = hide_secret(args.image_path)
            raise InputError(f"--save_video and --show are for a video or a camera, and {shown} is neither.")
        if args.save_regions and source.frames:
            raise InputError(
                f"--save_regions is for pictures, and {args.image_path} is a video: save its frames as pictures first."
            )
        if args.skip_existing and source.frames:
            raise InputError(f"--skip_existing is for pictures, and {args.image_path} is a video: omit it.")
        if args.skip_existing and args.save_regions == "coco":
            raise InputError(
                "--skip_existing: --save_regions coco writes one file for all pictures, so none can be skipped; "
                "choose labelme or geojson, or omit it."
            )
        if not args.save_regions and (args.min_area is not None or args.tolerance is not None):
            raise InputError("--min_area and --tolerance need --save_regions.")
        kept = (args.save_video, args.show, args.save_regions, args.save_confidence, self.saves_masks)
        if not any(kept):
            raise InputError("there would be no output: give --show, --save_video or --save_masks True.")

    @property
    def saves_masks(self) -> bool:
        args = self._args
        if args.save_masks is None:
            return args.overlay or not (args.save_video or args.show or args.save_regions or self._source.live)
        return args.save_masks

    @property
    def confidence(self) -> bool:
        """Whether an output needs the confidence."""
        return self._args.save_confidence or self._args.unknown_below is not None

    def check_files(self, source: Source, export: Export) -> None:
        """Refuse to overwrite files that an earlier run did not make.

        Raises:
            InputError: see `files.check_outputs`.
        """
        from bisenetv1_plugin import files
        from bisenetv1_plugin.inference import mask_files

        args = self._args

        def is_ours(path: str) -> bool:
            if args.json and files.is_same(path, args.json):
                return results.is_ours(path, "faults")
            if files.is_same(path, args.auto_tuned_shape_file):
                with open(path, "rb") as file:
                    return file.read(16) == b"shape_range_info"
            return files.made_by(mask_files.MADE_BY)(path)

        targets = [args.json] if args.json else []
        if args.save_video:
            targets.append(self._video_path)
        if args.use_trt and args.enable_auto_tune:
            targets.append(args.auto_tuned_shape_file)
        if source.frames:
            for folder in self._folders.values():
                targets += source.frame_files(folder)
        else:
            # A dict drops repeated paths: all pictures have the same COCO file.
            targets += dict.fromkeys(path for name in source.names() for path in self._files_of(name))
        files.check_outputs(targets, [*source.paths, *export.files], is_ours)

    def skip_done(self, source: Source) -> None:
        """With --skip_existing, remove the finished pictures from the source. Call it after `check_files`."""
        if not self._args.skip_existing:
            return
        from bisenetv1_plugin.inference.mask_files import is_done

        count = len(source.names())
        source.skip_done(lambda name: all(map(is_done, self._files_of(name))))
        self._skipped = count - len(source.names())
        print(f"{self._skipped} of {count} are done already")

    @property
    def _folders(self) -> dict[str, str]:
        from bisenetv1_plugin.inference.mask_files import output_folders

        args = self._args
        return output_folders(args.save_dir, self.saves_masks, args.overlay, args.save_confidence)

    def _files_of(self, name: str) -> list[str]:
        """The files that are written for the picture of this name."""
        from bisenetv1_plugin.inference.region_files import path_of

        args = self._args
        regions = [path_of(args.save_dir, args.save_regions, name)] if args.save_regions else []
        return [*(os.path.join(folder, f"{name}.png") for folder in self._folders.values()), *regions]

    def open(self, export: Export) -> None:
        """Make the sinks."""
        from bisenetv1_plugin.drawing.painter import Painter
        from bisenetv1_plugin.inference.mask_files import MaskFiles

        args, frames = self._args, self._source.frames
        painter = Painter(export.classes, export.colors, unknown=args.unknown_below is not None)
        if frames and args.show:
            from bisenetv1_plugin.inference.overlay_window import OverlayWindow

            self.window = OverlayWindow(f"bisenetv1: {frames.name}", painter)
            self.sinks.append(self.window)
        if frames and args.save_video:
            from bisenetv1_plugin.inference.video_writer import OverlayVideo

            self.video = OverlayVideo(self._video_path, frames.rate, painter)
            self.sinks.append(self.video)
        if self.saves_masks or args.save_confidence:
            self.sinks.append(MaskFiles(args.save_dir, self.saves_masks, args.overlay, args.save_confidence, painter))
        if args.save_regions:
            self.regions = self._region_files(export)
            self.sinks.append(self.regions)
        if args.json:
            self._figures = results.JsonFigures(args.json, self.regions, args.unknown_below)
            self.sinks.append(self._figures)
        if args.unknown_below is not None:
            self._unknown = _UnknownCounter(args.unknown_below)
            self.sinks.append(self._unknown)

    def notes(self) -> dict[str, Any]:
        """The figures of a Ray actor, as JSON values. The command's process adds them with `add_notes`."""
        return {
            "images": self._figures.images if self._figures else [],
            "entries": self.regions.entries if self.regions else [],
            "unknown": self._unknown.counts if self._unknown else [0, 0],
        }

    def add_notes(self, notes: dict[str, Any]) -> None:
        """Add the `notes` of a part of the pictures."""
        if self._figures:
            self._figures.images += notes["images"]
        if self.regions:
            self.regions.add(notes["entries"])
        if self._unknown:
            self._unknown.add(*notes["unknown"])

    def stop_note(self) -> str:
        """The end of a sentence that says which results a stopped command has left."""
        masks = f"; the masks so far are in {self._args.save_dir}" * self.saves_masks
        if not self._source.frames and self._args.save_regions != "coco":
            masks += "; add --skip_existing to continue"
        return f"{masks}{'; no video was written' * bool(self.video)}"

    def finish(self, name: str, seconds: float, **more: int) -> None:
        """Write the file of --json; `name`: see `JsonFigures.write_json`."""
        if self._args.skip_existing:
            more["skipped"] = self._skipped
        if self._figures:
            self._figures.write_json(name, self._args.cpu_threads, seconds, self._source.faults, more)

    def print_places(self) -> None:
        """Print where the results are."""
        args, source = self._args, self._source
        new = source.done > len(source.faults)
        some = new or self._skipped
        if self._unknown and new:
            print(self._unknown)
        if self.video and self.video.frames:
            print(f"The video is {self._video_path}")
        if self.saves_masks and (source.frames or some):
            print(f"The masks are in {args.save_dir}")
        if args.save_confidence and some:
            print(f"The confidence is in {os.path.join(args.save_dir, 'confidence')}")
        if self.regions:
            print(f"The regions are in {self.regions.place}")

    @property
    def _video_path(self) -> str:
        assert self._source.frames, "`__init__` has checked it"
        return os.path.join(self._args.save_dir, f"{self._source.frames.name}_overlay.mp4")

    def _region_files(self, export: Export) -> RegionFiles:
        from bisenetv1_plugin.inference import region_files, regions
        from bisenetv1_plugin.inference.postprocess import UNKNOWN

        args = self._args
        min_area = 1 if args.min_area is None else args.min_area
        tolerance = args.tolerance
        if tolerance is None:  # COCO's readers count pixels along slanted lines differently
            tolerance = 0.0 if args.save_regions == "coco" else regions.TOLERANCE
        classes = export.classes or tuple(map(str, range(256 if args.unknown_below is None else UNKNOWN)))
        return region_files.RegionFiles(
            args.save_dir,
            args.save_regions,
            classes,
            self._source.paths_by_name(),
            self._source.folder,
            min_area,
            tolerance,
        )


class _UnknownCounter:
    """Counts the unknown pixels of all masks."""

    def __init__(self, below: float) -> None:
        self._below, self.counts = below, [0, 0]  # unknown pixels, all pixels

    def write(self, found: SegmentedPicture) -> None:
        from bisenetv1_plugin.inference.postprocess import UNKNOWN

        self.add(int((found.mask == UNKNOWN).sum()), found.mask.size)

    def add(self, unknown: int, pixels: int) -> None:
        self.counts[0] += unknown
        self.counts[1] += pixels

    def __str__(self) -> str:
        share = self.counts[0] / max(self.counts[1], 1)
        return f"{share:.2%} of the pixels are unknown, 255 in the masks: their confidence is below {self._below:g}"
