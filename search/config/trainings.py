"""Trainings: sections of a run file that say how something learns."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from .section import Positive, Section

Way = Literal["ptq", "qat", "direct"]
WAYS: tuple[Way, ...] = ("ptq", "qat", "direct")  # the simplest first
OF_NO_TRAINING = ("finalists", "retrain_epochs", "ways", "exit_drop")  # of `finish`


class TrainConfig(Section):
    """One training: passes over the train split, images a step, AdamW and a cosine schedule.

    Attributes:
        ema: decay of the average of the weights over the steps, which is kept; 0 keeps the last
            weights.
    """

    epochs: Positive = 30
    batch_size: Positive = 64
    lr: Annotated[float, Field(gt=0)] = 2e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0


class TeacherConfig(TrainConfig):
    """The teacher: trained here on labels alone, or one of timm's as it is.

    Attributes:
        model: timm's name of a model; empty trains a small one here.
        checkpoint: file with its weights; empty takes timm's pretrained ones.
        img_size: pixels of the images that it sees; 0 takes timm's.
    """

    model: str = ""
    checkpoint: str = ""
    img_size: Annotated[int, Field(ge=0)] = 0

    @field_validator("checkpoint", "img_size")
    @classmethod
    def _of_a_model(cls, value: str | int, info: ValidationInfo) -> str | int:
        if value and not info.data.get("model"):
            what = "weights" if info.field_name == "checkpoint" else "pixels"
            raise ValueError(f"{what} of which model? Name it in teacher.model")
        return value


class AdaptConfig(TrainConfig):
    """Adaptation of a start to the images: a linear probe, then fine-tuning of all of it.

    Attributes:
        epochs: passes of fine-tuning; 0 takes the start as it is, which then knows the classes.
        layer_decay: factor of the learning rate from each block to the one below it.
        probe_epochs: passes over the frozen features that fit the head; 0 for none.
        mixup: parameter of the Beta distribution by which images are blended; 0 for none.
        label_smoothing: share of each label that goes to all classes. It makes a teacher say less
            about which classes are alike (Mueller et al., arXiv:1906.02629).
    """

    epochs: Annotated[int, Field(ge=0)] = 10
    lr: Annotated[float, Field(gt=0)] = 5e-4
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 0.75
    probe_epochs: Annotated[int, Field(ge=0)] = 100
    mixup: Annotated[float, Field(ge=0)] = 0.0
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0


class DistillConfig(Section):
    """Losses of students on the answers of the teacher, beside that on labels.

    Attributes:
        loss: "soft" its probabilities, "hard" its decision, "token" its decision on a head of
            its own (with global_pool: distill or avg_distill).
        features: weight of the loss on which images it finds alike.
        attention: weight of the loss on where it looks.
    """

    loss: Literal["soft", "hard", "token"] = "soft"
    features: Annotated[float, Field(ge=0)] = 0.0
    attention: Annotated[float, Field(ge=0)] = 0.0

    @property
    def looks_inside(self) -> bool:
        """Whether more than the teacher's logits is needed."""
        return self.features > 0 or self.attention > 0


class SupernetConfig(TrainConfig):
    """Training of the shared weights; those of a start are not trained.

    Attributes:
        epochs: passes; 0 for no shared weights, so that finalists start anew and only a forecast
            can score.
        sampling: "sandwich" trains the largest candidate, and the smallest and random ones on its
            answers; "uniform" trains random ones as if alone.
        random: random candidates a step.
        project_conflicts: take out of the largest network's gradient the part that works against
            the gradients of the others.
        alone: share of the steps in which only the largest candidate is trained, before all are.
        curriculum: share of the other steps over which the axes of the space open one by one.
        workers: processes of a Ray cluster that share the training, each with `batch_size` images
            a step; several need the extra "train".
    """

    epochs: Annotated[int, Field(ge=0)] = 40
    lr: Annotated[float, Field(gt=0)] = 1e-3
    sampling: Literal["sandwich", "uniform"] = "sandwich"
    random: Positive = 2
    project_conflicts: bool = False
    alone: Annotated[float, Field(ge=0, lt=1)] = 0.0
    curriculum: Annotated[float, Field(ge=0, le=1)] = 0.0
    workers: Positive = 1


class ProxyConfig(TrainConfig):
    """Training of single candidates from scratch, against which scores are checked.

    Attributes:
        seeds: number of seeds with which some candidates are trained, to measure chance.
        repeat_every: one in this many candidates is trained with all seeds.
        short_steps: lengths of the short trainings that are checked as scores, too.
    """

    epochs: Positive = 15
    batch_size: Positive = 32
    seeds: Positive = 3
    repeat_every: Positive = 4
    short_steps: tuple[Positive, ...] = (40, 80)


class FinishConfig(TrainConfig):
    """Fine-tuning of the models that will be delivered.

    Attributes:
        finalists: models taken from the front.
        inherit: whether they start with weights of the supernet. New ones do better where a long
            training follows: digits reached 98.6 and 99.0% in 80 passes, inherited 98.2 and 98.7%.
        ramp: share of the steps over which bits go down and zeros come in; 0 trains the model as
            it will be from the start.
        retrain_epochs: passes after each step back of a model that did not hold; 0 for none.
        ways: how models whose numbers are rounded are trained; of several, all are, and the first
            is delivered that no later one beats by more than chance. "ptq" trains in float and
            rounds after it, "qat" rounds while it trains, bit by bit, "direct" all from the start.
        layers: weight of the loss on how far what each block leaves is from what the start's has
            there, only beside a start; 0 for none. On answers the losses have 1 together, and
            CoFi gives layers 1 to 9 times their weight (Xia et al., arXiv:2204.00408). The start
            runs in each step, which takes 1.6 times as long: 93 steps on digits with a weight of
            1 reached 76.3%, and in the same time 150 without it 79.0%.
        exit_drop: by how much the accuracy of a model with exits may fall below that of its whole
            network on the validation images; it settles from which confidence on exits answer.
    """

    epochs: Positive = 10
    lr: Annotated[float, Field(gt=0)] = 3e-4
    finalists: Positive = 4
    inherit: bool = True
    ramp: Annotated[float, Field(ge=0, lt=1)] = 0.5
    retrain_epochs: Annotated[int, Field(ge=0)] = 4
    ways: tuple[Way, ...] = ("qat",)
    layers: Annotated[float, Field(ge=0)] = 0.0
    exit_drop: Annotated[float, Field(ge=0, lt=1)] = 0.005

    def recipe(self, *without: str) -> str:
        """What one training depends on, as JSON.

        Args:
            without: keys that are left out, too.
        """
        return self.model_dump_json(exclude={*OF_NO_TRAINING, *without})

    @field_validator("ways")
    @classmethod
    def _each_once(cls, ways: tuple[Way, ...]) -> tuple[Way, ...]:
        if not ways or len(set(ways)) < len(ways):
            raise ValueError(f"need one or more different ways, got {', '.join(ways) or 'none'}")
        return tuple(sorted(ways, key=WAYS.index))
