"""What lies behind things: `inpaint` beside a blurred continuation, in holes whose content is known.

    python benchmarks/inpainting.py --wholes data/wholes

A hole in each photograph has the shape of a thing in another one, so the photograph tells what is right. PSNR is over
the pixels of all holes, ST-LPIPS over whole photographs. Texture is the mean vertical difference of neighboring pixels
in the holes over that of the photographs: 1 is right, and blurred colors have little. `data/wholes` is made by
`training/recipes/small_128.py --stage wholes`.
"""

import argparse
import time

import numpy as np
import PIL.Image
import torch

from mcdiff_pipeline.evaluation.metrics.st_lpips import STLPIPS
from mcdiff_pipeline.evaluation.whole_photographs import WholePhotographs
from mcdiff_pipeline.flow import fill_from_behind
from mcdiff_pipeline.inpainting import inpaint


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wholes", required=True, help="Folder of photographs with masked things.")
    parser.add_argument("--size", type=int, default=256, help="Pixels along each side.")
    parser.add_argument("--holes", type=int, default=2, help="Holes tried for each photograph, one at a time.")
    parser.add_argument("--smallest", type=float, default=0.02, help="Smallest hole, as a share of the photograph.")
    parser.add_argument("--largest", type=float, default=0.3, help="Largest hole.")
    parser.add_argument("--sheet", help="Save photographs with both fillings as this image.")
    return parser.parse_args(arguments)


def square(image: PIL.Image.Image, size: int) -> PIL.Image.Image:
    """The middle of an image at another size."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side)).resize((size, size), PIL.Image.Resampling.LANCZOS)


def texture(image: torch.Tensor, hole: torch.Tensor) -> float:
    return float((image[:, 1:] - image[:, :-1]).abs().mean(dim=0)[hole[1:] & hole[:-1]].mean())


def main() -> None:
    args = parse_args()
    photographs, metric, size = WholePhotographs(args.wholes), STLPIPS(), args.size
    shapes = []
    for name in photographs.names:
        for mask in photographs.read(name).masks:
            shape = PIL.Image.fromarray(mask.astype(np.uint8) * 255).resize((size, size))
            hole = torch.from_numpy(np.asarray(shape) > 127)
            if args.smallest <= float(hole.float().mean()) <= args.largest:
                shapes.append((name, hole))
    totals: dict[str, list[tuple[float, float, float, float]]] = {}
    rows, seconds, number, count = [], [], 0, 0
    for index in range(args.holes):
        for name in photographs.names:
            others = [hole for other, hole in shapes if other != name]
            hole = others[number % len(others)]
            number, count = number + 1, count + 3 * int(hole.sum())
            pixels = np.asarray(square(photographs.read(name).image, size)).copy()
            picture = torch.from_numpy(pixels).permute(2, 0, 1).float() / 255
            known = (~hole).float()[None, None]
            blurred = fill_from_behind(picture[None], known, torch.zeros_like(known))[0]
            begun = time.process_time()
            found = inpaint(picture, ~hole)
            seconds.append(time.process_time() - begun)
            filled = blurred if found is None else found.part(picture, slice(None), slice(None))
            pictures = {"blurred continuation": blurred, "inpaint": filled}
            expected = metric.activations(picture[None])
            for title, content in pictures.items():
                result = torch.where(hole, content, picture)
                distance = float(metric.distance(metric.activations(result[None]), expected))
                error = float((result - picture)[:, hole].square().sum())
                totals.setdefault(title, []).append((error, distance, texture(result, hole), texture(picture, hole)))
                pictures[title] = result
            if index == 0:
                rows.append(torch.cat([picture, *pictures.values()], dim=2))
    print(f"{number} holes in {len(photographs.names)} photographs, {np.mean(seconds):.2f} s of CPU time each")
    print("| | PSNR in holes (dB) | ST-LPIPS | texture |\n|---|---|---|---|")
    for title, of_holes in totals.items():
        error, distance, found_texture, true_texture = np.array(of_holes).T
        psnr = -10 * np.log10(error.sum() / count)
        print(f"| {title} | {psnr:.2f} | {distance.mean():.4f} | {found_texture.sum() / true_texture.sum():.2f} |")
    if args.sheet:
        image = (255 * torch.cat(rows, dim=1)).round().byte().permute(1, 2, 0).numpy()
        PIL.Image.fromarray(image).save(args.sheet)


if __name__ == "__main__":
    main()
