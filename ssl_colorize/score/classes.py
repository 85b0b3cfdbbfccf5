"""The true classes of photos, in a classifier's numbers: from folder names, or from a list."""

import csv
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from ssl_colorize.errors import UserError
from ssl_colorize.score.classifiers import Classifier
from ssl_colorize.score.stream import ScoredPhotos


def true_classes(scored: ScoredPhotos, classifier: Classifier, *, file: str | None = None) -> list[int | None]:
    """Each photo's class; None where it is not known.

    Args:
        scored: the photos, whose labels are asked, innermost folder first.
        classifier: knows which label means which of its classes.
        file: a CSV of photo and class in its first two columns, which then decides alone.

    Raises:
        UserError: the file cannot be read, or names none of the photos.
    """
    if file is None:
        return [_first_known(labels, classifier) for labels in scored.labels]
    listed = _read(file)
    names = [scored.photos.name(index) for index in range(len(scored))]
    labels = [listed.get(name, listed.get(PurePosixPath(name).name)) for name in names]
    classes = [None if label is None else classifier.index_of(label) for label in labels]
    if all(each is None for each in classes):
        raise UserError(
            f"{file} names a class of {classifier.name} for none of the photos: its first column is the photo, "
            "its second the class, by number, synset or name."
        )
    return classes


def _first_known(labels: tuple[str, ...], classifier: Classifier) -> int | None:
    return next((found for label in labels if (found := classifier.index_of(label)) is not None), None)


def _read(file: str) -> Mapping[str, str]:
    try:
        with Path(file).open(newline="", encoding="utf-8") as lines:
            return {row[0].strip(): row[1].strip() for row in csv.reader(lines) if len(row) > 1}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise UserError(f"Cannot read the labels {file}: {reason}.") from None
