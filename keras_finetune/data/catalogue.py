"""Rows out of TFDS data sets and `tf.data.Dataset`s."""

import difflib
import random
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_finetune.data.examples import Chunk, Examples
from keras_finetune.data.fingerprint import combine
from keras_finetune.data.rows import CHUNK_ROWS, dict_chunks
from keras_finetune.suggest import did_you_mean


def prepared_builder(name: str, data_dir: str | Path | None = None) -> Any:
    """Return the TFDS builder of a data set, downloaded and prepared.

    Args:
        name: As in `tfds.load`: ``"name"``, ``"name/config"``, ``"name/config:1.0.0"``.
        data_dir: Where TFDS keeps its data. Default: its own.

    Raises:
        ValueError: There is no such data set or configuration; names the nearest.
        ImportError: A package that it is made with, or of, is not installed.
        OSError: It could not be downloaded or prepared.
    """
    import tensorflow_datasets as tfds

    import keras_finetune.data.python_docs  # noqa: F401  registers our builder with TFDS

    try:
        builder = tfds.builder(name, data_dir=None if data_dir is None else str(data_dir))
    except ValueError as error:
        base = re.split("[/:]", name)[0]
        known = tfds.list_builders(with_community_datasets=False)
        if base in known:  # a wrong version or configuration: TFDS says which there are
            raise ValueError(f'"{name}": {error}') from error
        nearest = difflib.get_close_matches(base, known, n=3)
        raise ValueError(
            f'"{name}" is neither a file or folder here nor the name of a TFDS data set.'
            + (f" Nearest names: {', '.join(nearest)}" if nearest else "")
        ) from None
    drawn = random.getstate()  # TFDS draws names of folders: a user's seed would not hold then.
    try:
        builder.download_and_prepare()
    except ImportError:  # It says what to install.
        raise
    except Exception as error:  # TFDS lets through what the network, the disk, a parser raise
        again = tfds.builder(name, data_dir=None if data_dir is None else str(data_dir))
        if again.is_prepared():  # by another process meanwhile
            return again
        raise OSError(
            f'The TFDS data set "{name}" could not be downloaded and prepared: '
            f"{type(error).__name__}: {error}\n"
            "Without a network: prepare it where there is one and copy its folder to "
            f'{builder.data_dir}, or use "python_docs/classification", which is made offline.'
        ) from error
    finally:
        random.setstate(drawn)
    return builder


def tfds_examples(builder: Any, split: str) -> Examples:
    """Return the rows of a split of a prepared TFDS data set.

    Text is decoded to `str`; class names are kept in `Examples.names`.

    Args:
        builder: The builder.
        split: A split, or an expression of splits such as ``"train[:10%]+test"``.

    Raises:
        ValueError: There is no such split, or it is empty.
    """
    import tensorflow_datasets as tfds

    info = builder.info
    if split.isidentifier() and split not in info.splits:
        raise ValueError(
            f'{info.full_name} has no split "{split}". Splits: {", ".join(info.splits)}.'
            + did_you_mean(split, info.splits)
        )
    num_rows = int(info.splits[split].num_examples)
    if not num_rows:
        raise ValueError(f'{info.full_name}: the split "{split}" has no rows')
    names = {
        # `feature` of a feature is what a sequence is made of: several labels a row.
        column: getattr(feature, "feature", feature).names
        for column, feature in info.features.items()
        if isinstance(getattr(feature, "feature", feature), tfds.features.ClassLabel)
    }
    # Autocaching would hold the whole set in memory.
    config = tfds.ReadConfig(try_autocache=False)
    dataset = builder.as_dataset(split=split, shuffle_files=False, read_config=config)
    rows = tf_data_examples(dataset)
    fingerprint = combine("tfds", info.full_name, split, str(info.dataset_size), str(num_rows))
    return Examples(
        lambda: rows.chunks(CHUNK_ROWS),
        rows.columns,
        num_rows=num_rows,
        names=names,
        fingerprint=fingerprint,
    )


def tf_data_examples(dataset: Any) -> Examples:
    """Return the rows of a `tf.data.Dataset` whose elements are dicts, one a row.

    Raises:
        ValueError: The elements are no dicts.
    """
    spec = dataset.element_spec
    if not isinstance(spec, Mapping):
        raise ValueError(
            f"Rows are read from a tf.data.Dataset of dicts; the elements of this one are {spec}. "
            "Map it to dicts; or give it to fit() as it is, if it holds batches."
        )
    columns = [str(name) for name in spec]
    scalars = all(getattr(part, "shape", None) == () for part in spec.values())

    def factory() -> Iterator[Chunk]:
        if scalars:  # a thousand at a time is tens of times faster
            for batch in dataset.batch(CHUNK_ROWS).as_numpy_iterator():
                yield {name: _plain(batch[name]) for name in columns}
        else:
            rows = ({name: _plain(row[name]) for name in columns} for row in _elements(dataset))
            yield from dict_chunks(enumerate(rows), columns, "Row ")

    return Examples.from_chunks(factory, columns)


def _elements(dataset: Any) -> Iterator[Any]:
    import tensorflow_datasets as tfds

    return iter(tfds.as_numpy(dataset))  # ragged tensors too, which as_numpy_iterator refuses


def _plain(value: Any) -> Any:
    """Make Python values of scalars, lists of vectors, and strings of bytes."""
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            return value
    if isinstance(value, Mapping):
        return {name: _plain(part) for name, part in value.items()}
    if hasattr(value, "to_list"):  # a ragged tensor
        return _plain(value.to_list())
    if isinstance(value, np.ndarray) and value.ndim <= 1:
        return _plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    return value.item() if isinstance(value, np.generic) else value
