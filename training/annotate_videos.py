"""Turns videos into clips with flow, people and keypoints, the data that the training scripts read.

    python annotate_videos.py VIDEO_OR_FOLDER ... --output_dir clips/mine

The command `mcdiff annotate` does the same; `docs/annotation.md` says what happens to a video.
"""

import argparse
import sys

from mcdiff_pipeline.annotation.arguments import add_annotation_arguments, run_annotation


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_annotation_arguments(parser, separator="_")
    args = parser.parse_args(arguments)
    try:
        return run_annotation(args)
    except (ValueError, OSError, ImportError, RuntimeError, MemoryError) as error:
        sys.exit(f"annotate_videos.py: {error}")
    except KeyboardInterrupt as stop:
        print(f"annotate_videos.py: {stop}", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
