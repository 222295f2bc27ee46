"""`make speed`: ours beside torchvision's on this machine, written into docs/speed.md.

    python benchmarks/speed.py [--turns 7] [--threads 2] [--device cuda] [--precision fp32]

Mask R-CNN R-50-FPN with the same weights, inference and training step, and ours with the generator: all take turns
in one process (`against_torchvision.py` has the contestants and how they are made equal). Twelve minutes on two slow
CPU cores. Have the machine do nothing else.
"""

import argparse
import statistics
from pathlib import Path

import torchvision
from against_torchvision import HEIGHT, WIDTH, contestant
from timing import add_machine, computing, describe_machine, ratios, take_turns

PAGE = Path(__file__).parents[1] / "docs" / "speed.md"
BEGIN, END = "<!-- make speed -->", "<!-- end -->"
BASELINE = "torchvision's `maskrcnn_resnet50_fpn`"
CONTESTANTS = {
    BASELINE: ("torchvision", "nn"),
    "ours, nearest neighbour": ("srfgan", "nn"),
    "ours, with the generator": ("srfgan", "srf"),
}
"""By their names in the table: whose, and the upsampling."""


def rows(mode: str, seconds: dict[str, list[float]]) -> list[str]:
    """Lines of the table: milliseconds, and the ratio to torchvision's of the same turn: median, least, most."""
    lines = []
    for name, times in seconds.items():
        found = ratios(seconds, name, BASELINE)
        ratio = f"{statistics.median(found):.2f} ({min(found):.2f} to {max(found):.2f})"
        cells = [mode, name, f"{statistics.median(times) * 1000:.0f}", "1" if name == BASELINE else ratio]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def section(arguments: argparse.Namespace) -> str:
    """What was measured, in Markdown."""
    lines = []
    for mode in ("inference", "training step"):
        runs = {
            name: contestant(whose, mode, arguments.device, upsampler)
            for name, (whose, upsampler) in CONTESTANTS.items()
        }
        lines += rows(mode, take_turns(runs, arguments.turns, arguments.device))
    about = (
        f"{describe_machine(arguments)}, torchvision {torchvision.__version__}, one {HEIGHT}x{WIDTH} image"
    )
    head = ["| | Mask R-CNN R-50-FPN | ms | of torchvision's |", "|---|---|--:|--:|"]
    turns = f"median of {arguments.turns} turns, ratios taken turn by turn, least to most"
    return "\n".join([f"{about}; {turns}:", "", *head, *lines])


def put(page: str, text: str) -> str:
    """A page with the text between its two marks."""
    before, mark, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not mark or not end:
        raise SystemExit(f"{PAGE} has no {BEGIN} before an {END}")
    return f"{before}{BEGIN}\n{text}\n{END}{after}"


def main() -> None:
    """Measure, print, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=7)
    add_machine(parser)
    arguments = parser.parse_args()
    with computing(arguments):
        text = section(arguments)
    print(text)
    PAGE.write_text(put(PAGE.read_text(encoding="utf-8"), text), encoding="utf-8")


if __name__ == "__main__":
    main()
