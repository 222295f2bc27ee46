"""What `srfgan fit` runs: a plain detector, the method's stages, and whatever else these rest on. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from srfgan.models.errors import InputError
from srfgan_cli.presets.config import Config
from srfgan_cli.presets.library import plain_twin
from srfgan_cli.reproduction.graph import Graph, Job, Settings, detector_job, load_as_set, scored_job
from srfgan_cli.reproduction.jobs import JobFolder


@dataclass(frozen=True)
class Experiment:
    """A method and its plain twin: as the paper compares them, the same detector trained as long, but for G.

    Attributes:
        plain, method: what the graph's results call them.
        places: by job, its folder's name.
    """

    graph: Graph
    plain: str
    method: str
    places: dict[str, str]

    def folders(self, output_dir: Path) -> dict[str, JobFolder]:
        """The folder of each job."""
        return {key: JobFolder(output_dir / place) for key, place in self.places.items()}

    @property
    def target(self) -> str:
        """The folder's name of the method's detector."""
        return self.places[detector_job(self.graph, self.method).key]

    @property
    def config(self) -> Config:
        """The method's, as its last stage has it."""
        return detector_job(self.graph, self.method).config


def plan_experiment(preset: str, settings: Settings) -> Experiment:
    """The runs that compare a preset with its plain twin, each once.

    Args:
        preset: a name, or the path of a YAML file; its stages rest on those of other presets where it says so.

    Raises:
        InputError: a preset that cannot be run with these settings, that upsamples as its twin, or that trains with
            pseudo-labels, for which a fit is given no images.
    """
    method = load_as_set(preset, settings)
    if method.model.neck.upsampler == "nn":
        raise InputError(
            f"Preset '{method.name}' is a plain detector, and `srfgan fit` compares one with another upsampling: "
            f"choose {_other(method.name)}, or train it alone with `srfgan finetune --preset {preset}`."
        )
    if method.finetune.self_training is not None:
        raise InputError(
            f"Preset '{method.name}' trains with pseudo-labels, and `srfgan fit` is given no images without labels: "
            "leave them out with --set finetune.self_training=null, or train its stages one by one, the last with "
            "`srfgan finetune --unlabeled DIR --teacher FILE`."
        )
    plain = plain_twin(method)
    if plain.finetune.start_from_guide and plain.guide == plain.name:
        raise InputError(
            f"Preset '{method.name}' goes on from {plain.guide} (finetune.start_from_guide), and its plain twin, which "
            "does the same, would have that name: write it into a preset of your own with another name "
            f"(`srfgan presets copy`) and sources.guide: {plain.guide}."
        )
    graph = Graph([], loaded={method.name: method, plain.name: plain})
    for name in (plain.name, method.name):
        graph.results[name, 0] = scored_job(graph, name, 0, settings)
    _check_guide(graph)
    return Experiment(graph, plain.name, method.name, _places(graph, plain.name, method.name))


def _other(name: str) -> str:
    return f"`{name.removesuffix('_nn')}`" if name.endswith("_nn") else "a preset without `nn`"


def _check_guide(graph: Graph) -> None:
    """F is plain, whatever was said with --set for all runs.

    Raises:
        InputError: it is not.
    """
    for job in graph.jobs.values():
        named = job.sources.get("weights" if job.kind == "finetune" else "guide")
        guide = None if named is None else graph.jobs[named].config
        if guide is not None and guide.model.neck.upsampler != "nn":
            raise InputError(
                f"--set model.neck.upsampler reaches {guide.name} too, the guide F, which is plain: write the "
                "upsampler into a preset of your own instead (`srfgan presets copy`)."
            )


def _places(graph: Graph, plain: str, method: str) -> dict[str, str]:
    roles = dict(_roles(graph, plain, method))
    doubled = {role for role in roles.values() if list(roles.values()).count(role) > 1}
    return {
        key: f"{role}-{graph.jobs[key].config.name}" if role in doubled else role
        for key, role in roles.items()
    }


def _roles(graph: Graph, plain: str, method: str) -> Iterator[tuple[str, str]]:
    """What each job is to the experiment: the name of its stage, where no other word tells more."""
    baseline, target = (detector_job(graph, name).key for name in (plain, method))
    for key, job in graph.jobs.items():
        if key == baseline:
            yield key, "baseline"
        elif job.kind == "eval":
            yield key, "eval-baseline" if key == graph.results[plain, 0] else "eval"
        else:
            yield key, "guide" if job.kind == "finetune" and key != target else job.kind


def titled(experiment: Experiment, job: Job) -> tuple[str, str]:
    """What a job is, and what it trains and against what, for people."""
    graph = experiment.graph
    detector = {"generator": "G", "extractor": "the extractor"}
    if job.kind == "pretrain":
        return (
            "Stage 1: generator",
            "G learns to turn the guide's features of a half-size image into the image's own, against a discriminator.",
        )
    if job.kind == "extract":
        return (
            "Stage 2: extractor",
            "A new backbone and pyramid with G inside learn to detect in half-size images, and the guide's features.",
        )
    if job.kind == "eval":
        return "Scores", "The trained detector is scored in the preset's own way."
    guides = {other.sources.get("guide") for other in graph.jobs.values()}
    also = " It is the guide of stages 1 and 2, too." if job.key in guides else ""
    continued = detector_job(graph, experiment.method).config.finetune.start_from_guide
    also += " It goes on from the guide, as the method does." if continued else ""
    if job.key == detector_job(graph, experiment.plain).key:
        return "Plain detector", f"The same detector, upsampling by nearest neighbour: the baseline.{also}"
    if job.key != detector_job(graph, experiment.method).key:
        learnt = " whose pyramid stages 1 and 2 learn from" if job.key in guides else ""
        start = ", from which both detectors go on" if continued else ""
        return "Guide", f"The trained plain detector{learnt}{start}."
    taken = [what for name, what in detector.items() if name in job.sources]
    over = f"it takes over {taken[0]} and" if taken else "it"
    return (
        "Stage 3: target detector",
        f"The detector itself: {over} trains like the baseline, as long as the baseline.",
    )
