"""The kind `tagger`: an encoder with a tag classifier over words, trained by a schedule.

In: an entry of `recognizers`. Out: its model. Imports pydantic only. Knows nothing of torch: `recognition/training.py` trains, `recognition/tagger.py`
holds the model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from mentionforge.entries import Entry, PositiveFloat
from mentionforge.recognition.kinds.contract import TrainingLoad
from mentionforge.recognition.schedules.masked_then_real import Mask
from mentionforge.recognition.schedules.mixed import Mixed
from mentionforge.recognition.schedules.relabelled_then_real import Relabel
from mentionforge.recognition.settings import Phase

if TYPE_CHECKING:
    from mentionforge.recognition.schedules.contract import ScheduleKind


class TaggerRecognizer(Entry):
    """Token classification with IOB2 labels.

    Defaults of the epochs, learning rate, batch_size, weight_decay, warmup_ratio and max_tokens are the paper's. It stops by the loss on dev, its code
    after one epoch without a better one; early_stopping and patience are by default others, as are labels (it has no B) and the type of the computation.
    """

    trains: ClassVar[bool] = True
    imported: ClassVar[bool] = False
    schedule: ClassVar[str] = ""
    part: ClassVar[str] = "recognition.train"

    kind: Literal["tagger"] = "tagger"
    model: str = Field(description="Model entry with the encoder.")
    real: Phase = Field(Phase(), description="The phase on the corpus' training split.")
    synthetic: Phase = Field(Phase(), description="The phase on synthetic notes.")
    mixed: Mixed = Field(Mixed(), description="The phase of the schedule mixed.")
    relabel: Relabel = Field(Relabel(), description="What relabelled_then_real teaches.")
    mask: Mask = Field(Mask(), description="What masked_then_real does not teach.")
    batch_size: int = Field(32, ge=1, description="Sentences per step.")
    weight_decay: float = Field(0.01, ge=0, description="Weight decay.")
    warmup_ratio: float = Field(0.0, ge=0, lt=1, description="Share of the steps that warm up.")
    class_weights: Literal["balanced"] | tuple[PositiveFloat, PositiveFloat, PositiveFloat] | None = Field(
        None, description="Weights of O, B and I in the loss; balanced: the inverse of their frequency in the phase."
    )
    max_tokens: int = Field(510, ge=16, description="Longest window, in word pieces; longer sentences are windowed.")
    stride: int = Field(64, ge=0, description="Word pieces that two windows of a sentence share.")
    early_stopping: Literal["dev_f1", "dev_loss", "none"] = Field(
        "dev_f1", description="What stops the last phase and chooses its epoch: strict F1 or loss on dev; none: all epochs are run and the last is kept."
    )
    patience: int = Field(3, ge=1, description="Epochs without a better dev score before training stops.")
    dtype: Literal["auto", "bfloat16", "float32"] = Field("auto", description="Autocast type; auto: bfloat16 where the device is fast with it.")

    def covers(self, corpus: str) -> bool:
        """It is trained on any corpus."""
        return True

    def training_load(self, schedule: ScheduleKind, real: float, notes: float) -> TrainingLoad:
        """Sentences and passes, by the schedule."""
        return TrainingLoad(schedule.sentences_learned(self, real, notes), self.batch_size, schedule.last_phase(self).epochs)
