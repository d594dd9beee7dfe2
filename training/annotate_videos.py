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
    return run_annotation(parser.parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
