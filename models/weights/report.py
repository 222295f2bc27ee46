"""What fits of a file, and what does not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from srfgan.models.weights.names import is_derived

_SHOWN = 8
"""How many names a summary lists of each kind."""


@dataclass(frozen=True)
class LoadReport:
    """What became of a file's tensors. All lists hold our names, or timm's of a network taken from there as it is.

    Attributes:
        source: the file.
        loaded: how many tensors were loaded.
        missing: in the model, not in the file; they keep their values.
        unexpected: in the file, not in the model; they are not used.
        mismatched: in both, with different shapes; the model's keep their values.
        shapes: shapes (file's, model's) of the mismatched ones.
    """

    source: str
    loaded: int
    missing: list[str]
    unexpected: list[str]
    mismatched: list[str]
    shapes: dict[str, tuple[tuple[int, ...], tuple[int, ...]]]

    @property
    def complete(self) -> bool:
        """Whether file and model agree in every tensor."""
        return not (self.missing or self.unexpected or self.mismatched)

    def summary(self) -> str:
        """A few lines for a person."""
        lines = [f"{self.source}: {self.loaded} tensors loaded"]
        shapes = {
            name: f"{name} {list(file)} -> {list(model)}" for name, (file, model) in self.shapes.items()
        }
        for title, names in (
            ("not in the file, left as they were", self.missing),
            ("in the file, not in this model", self.unexpected),
            ("of another shape (file -> model), left as they were", self.mismatched),
        ):
            if names:
                shown = [shapes.get(name, name) for name in names[:_SHOWN]]
                more = f", and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
                lines.append(f"  {len(names)} {title}: {', '.join(shown)}{more}")
        return "\n".join(lines)


def compare(
    given: Mapping[str, Tensor], wanted: Mapping[str, Tensor], source: str
) -> tuple[dict[str, Tensor], LoadReport]:
    """The tensors of a file that a network has a place for, and the report of all.

    Args:
        given: the file's.
        wanted: the network's own, by the same names.
        source: what the report calls the file.
    """
    fitting = {n: v for n, v in given.items() if n in wanted and v.shape == wanted[n].shape}
    mismatched = sorted(name for name in given if name in wanted and name not in fitting)
    report = LoadReport(
        source=source,
        loaded=len(fitting),
        missing=sorted(n for n in wanted if n not in given and not is_derived(n)),
        unexpected=sorted(n for n in given if n not in wanted and not is_derived(n)),
        mismatched=mismatched,
        shapes={name: (tuple(given[name].shape), tuple(wanted[name].shape)) for name in mismatched},
    )
    return fitting, report
