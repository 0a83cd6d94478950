"""The text data sets that are known by name."""

from __future__ import annotations

from edgeprune.data.default_splits import CALIBRATION_SAMPLES
from edgeprune.data.info import METRICS, DatasetInfo, Hub
from edgeprune.data.wordpiece import Text
from edgeprune.judge import CLASSIFICATION, QUESTIONS, REGRESSION
from edgeprune.recipe import Rows

_MOST_SELECT = 5_000

_IMDB = DatasetInfo(
    "imdb",
    ("text",),
    ("neg", "pos"),
    Text(("text",), 200, keep="tail"),
    {
        "train": Rows(source="imdb:train", stop=22_500),
        "calibrate": Rows(source="imdb:train", stop=CALIBRATION_SAMPLES),
        "select": Rows(source="imdb:train", start=22_500, stop=25_000),
        "report": Rows(source="imdb:test"),
    },
    hub=Hub("stanfordnlp/imdb"),
    sorted=True,
)


def _glue(
    task: str,
    columns: tuple[str, ...],
    classes: tuple[str, ...],
    train_rows: int,
    metrics: tuple[str, ...] = ("top1",),
    length: int = 128,
) -> DatasetInfo:
    """A task of GLUE (Wang et al., 2019). Labels of its test rows are hidden, so its validation rows report, and the
    last of the training rows select.
    """
    name = f"glue:{task}"
    trained = train_rows - min(_MOST_SELECT, train_rows // 10)
    reported = {"report": "validation"}
    if task == "mnli":
        reported = {"report": "validation_matched", "mismatched": "validation_mismatched"}
    return DatasetInfo(
        name,
        columns,
        classes,
        Text(columns, length),
        {
            "train": Rows(source=f"{name}:train", stop=trained),
            "calibrate": Rows(source=f"{name}:train", stop=min(trained, CALIBRATION_SAMPLES)),
            "select": Rows(source=f"{name}:train", start=trained, stop=train_rows),
            **{role: Rows(source=f"{name}:{split}") for role, split in reported.items()},
        },
        task=CLASSIFICATION if classes else REGRESSION,
        metrics=metrics,
        hub=Hub("nyu-mll/glue", task),
    )


_SENTENCE = ("sentence",)
_SENTENCES = ("sentence1", "sentence2")
_ENTAILED = ("entailment", "not_entailment")

# Of the official development rows, because the training rows are not everywhere at hand: those that calibrate and
# select are not reported, so what is reported is no official score. Neighbouring rows ask about the same context.
_SQUAD = DatasetInfo(
    "squad",
    ("question", "context"),
    (),
    Text(("question", "context"), 384, stride=128),
    {
        "train": Rows(source="squad:train"),
        "calibrate": Rows(source="squad:validation", stop=256),
        "select": Rows(source="squad:validation", start=256, stop=1256),
        "report": Rows(source="squad:validation", start=1256),
    },
    task=QUESTIONS,
    metrics=METRICS[QUESTIONS],
    label="answers",
    hub=Hub("rajpurkar/squad"),
)

TEXT_SETS = (
    _IMDB,
    _glue("cola", _SENTENCE, ("unacceptable", "acceptable"), 8_551, ("matthews",)),
    _glue("sst2", _SENTENCE, ("negative", "positive"), 67_349, length=64),
    _glue("mrpc", _SENTENCES, ("not_equivalent", "equivalent"), 3_668, ("top1", "f1")),
    _glue("qqp", ("question1", "question2"), ("not_duplicate", "duplicate"), 363_846, ("top1", "f1")),
    _glue("stsb", _SENTENCES, (), 5_749, METRICS[REGRESSION]),
    _glue("mnli", ("premise", "hypothesis"), ("entailment", "neutral", "contradiction"), 392_702),
    _glue("qnli", ("question", "sentence"), _ENTAILED, 104_743),
    _glue("rte", _SENTENCES, _ENTAILED, 2_490),
    _glue("wnli", _SENTENCES, ("not_entailment", "entailment"), 635),
    _SQUAD,
)
