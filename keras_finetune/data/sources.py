"""Where rows come from: TFDS, files, folders, arrays, iterables, `tf.data`."""

import dataclasses
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_finetune.data.catalogue import prepared_builder, tf_data_examples, tfds_examples
from keras_finetune.data.examples import Chunk, Examples
from keras_finetune.data.files import read_file
from keras_finetune.data.fingerprint import hash_chunks
from keras_finetune.data.parquet_files import read_shards
from keras_finetune.data.rows import all_keys, dict_chunks
from keras_finetune.data.splits import Splits, split
from keras_finetune.suggest import did_you_mean

# The names of splits in files and mappings. TFDS has its own, used as they are.
_SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
}
_SHARD = re.compile(r"(.+)-\d{5}-of-(\d{5})\.parquet")  # as the Hugging Face hub names them


@dataclasses.dataclass(frozen=True)
class _Source:
    """A source that was recognised: its splits (none: one set of rows), and how to get one."""

    splits: tuple[str, ...]
    get: Callable[[str | None], Examples]


def read(
    source: Any,
    split: str | None = None,
    *,
    columns: Sequence[str] | Mapping[str, str] | None = None,
    data_dir: str | Path | None = None,
) -> Examples:
    """Read one set of rows.

    Args:
        source: One of

            - the name of a TFDS data set, ``"ag_news_subset"``, ``"python_docs/classification"``;
            - a path to a ``.jsonl``, ``.csv``, ``.tsv``, ``.txt``, ``.parquet`` or SQuAD ``.json``
              file, or to a folder with a folder of text files a class (see `read_file`);
            - a folder, or a mapping, with a source a split: ``train.csv`` and ``test.csv``, or
              all of ``train-00000-of-00002.parquet`` and so on;
            - a mapping of column names to lists or arrays, or a pandas data frame;
            - an iterable of dict rows, which is read into memory; a missing key is None;
            - a callable that returns a fresh iterable of dict rows, all with the same keys, which
              is streamed;
            - a `tf.data.Dataset` of dicts, unbatched, which is streamed;
            - an `Examples`.

            What is streamed must give the same rows in the same order each time.
        split: Which split, where there are several. For TFDS any of its expressions, as
            ``"train[:10%]"``.
        columns: The columns to keep; a mapping ``{"old": "new"}`` also renames them.
        data_dir: Where TFDS keeps its data. Default: its own, ``~/tensorflow_datasets``.

    Returns:
        The rows.

    Raises:
        ValueError: The source is not understood, it has no rows, it has several splits and none
            was chosen, or a column is unknown.
        OSError: A TFDS data set could not be downloaded or prepared.

    Example:
        >>> examples = read([{"text": "good", "stars": 5}, {"text": "bad", "stars": 1}],
        ...                 columns={"text": "text", "stars": "label"})
        >>> list(examples)
        [{'text': 'good', 'label': 5}, {'text': 'bad', 'label': 1}]
    """
    found = _open(source, data_dir)
    if split is not None and not found.splits:
        raise ValueError(f'split="{split}": this source is one set of rows and has no splits')
    if split is None and len(found.splits) > 1:
        raise ValueError(
            f"This source has the splits {', '.join(found.splits)}: choose one with "
            f'split="{found.splits[0]}", or take them all with load()'
        )
    examples = found.get(split or (found.splits[0] if found.splits else None))
    return examples if columns is None else examples.pick(columns)


def load(
    source: Any,
    *,
    validation: float | int = 0.1,
    test: float | int = 0.1,
    seed: int = 0,
    columns: Sequence[str] | Mapping[str, str] | None = None,
    data_dir: str | Path | None = None,
) -> Splits:
    """Read a train, a validation and a test set.

    The splits that a source has are used as they are; those that are missing are taken out of its
    training rows, at random and the same way each time.

    Args:
        source: As for `read`.
        validation: Size of the validation set, where the source has none: a fraction of the
            training rows, or a number of rows; 0 for an empty one.
        test: Size of the test set, likewise.
        seed: Seed of the random choice.
        columns: As for `read`.
        data_dir: As for `read`.

    Returns:
        The sets, as a named tuple ``(train, validation, test)``.

    Raises:
        ValueError: As for `read`; or there are too few rows.

    Example:
        >>> rows = {"text": [f"text {n}" for n in range(20)], "label": [0, 1] * 10}
        >>> [len(part) for part in load(rows)]
        [16, 2, 2]
    """
    found = _open(source, data_dir)
    if found.splits and "train" not in found.splits:
        raise ValueError(
            f"load needs a split named train; this source has {', '.join(found.splits)}. "
            "Take one with read(source, split)."
        )

    def get(name: str | None) -> Examples:
        examples = found.get(name)
        return examples if columns is None else examples.pick(columns)

    given = {name: get(name) for name in ("validation", "test") if name in found.splits}
    train = get("train" if found.splits else None)
    carved = split(
        train,
        0 if "validation" in given else validation,
        0 if "test" in given else test,
        seed=seed,
    )
    # Where nothing was taken out, the training set stays what it is, fingerprint included.
    whole = len(given) == 2
    return carved._replace(**given, **({"train": train} if whole else {}))


def _open(source: Any, data_dir: str | Path | None) -> _Source:
    if isinstance(source, Examples):
        return _single(source)
    if isinstance(source, str) and not source:
        raise ValueError('The source is an empty text. For the current folder give ".".')
    if isinstance(source, str) and not Path(source).exists():
        return _from_catalogue(source, data_dir)
    if isinstance(source, (str, Path)):
        files = _split_files(Path(source))
        return _several(files) if files else _single(read_file(source))
    if isinstance(source, Mapping):
        if source and all(str(key) in _SPLIT_NAMES for key in source):
            return _several({_SPLIT_NAMES[str(key)]: part for key, part in source.items()})
        return _single(Examples.from_columns(source))
    if hasattr(source, "iloc") and hasattr(source, "columns"):  # a pandas data frame
        return _single(Examples.from_columns({str(name): source[name] for name in source.columns}))
    if hasattr(source, "element_spec"):
        return _single(_repeatable(tf_data_examples(source)))
    if callable(source):
        return _single(_from_rows(source))
    if isinstance(source, Iterable) and not isinstance(source, (str, bytes)):
        return _single(_in_memory(source))
    raise ValueError(
        f"A source is a TFDS name, a path, columns, rows or a callable; got {type(source).__name__}"
    )


def _single(examples: Examples) -> _Source:
    if next(iter(examples.chunks(1)), None) is None:
        raise ValueError(f"The source has no rows ({examples!r})")
    return _Source((), lambda _: examples)


def _several(parts: Mapping[str, Any]) -> _Source:
    def get(name: str | None) -> Examples:
        wanted = _SPLIT_NAMES.get(str(name), str(name))
        if wanted not in parts:
            raise ValueError(_no_split(str(name), parts))
        return read(parts[wanted])

    return _Source(tuple(parts), get)


def _no_split(name: str, there_are: Iterable[str]) -> str:
    names = list(there_are)
    return f'There is no split "{name}". Splits: {", ".join(names)}.{did_you_mean(name, names)}'


def _split_files(path: Path) -> dict[str, "Path | Examples"]:
    """Find train, validation and test files or folders in a folder."""
    found: dict[str, list[Path]] = {}
    for child in sorted(path.iterdir()) if path.is_dir() else ():
        shard = _SHARD.fullmatch(child.name)
        name = _SPLIT_NAMES.get((shard[1] if shard else child.name.partition(".")[0]).lower())
        suffixes = (".jsonl", ".json", ".csv", ".tsv", ".txt", ".parquet", ".gz")
        readable = child.suffix.lower() in suffixes
        holds_folders = child.is_dir() and any(inner.is_dir() for inner in child.iterdir())
        if name and (readable or holds_folders) and child not in found.get(name, ()):
            if name in found:
                first = found[name][0].name
                raise ValueError(f'"{path}" has two {name} sets: {first}, {child.name}')
            found[name] = _shards(child, int(shard[2])) if shard else [child]
    return {
        name: files[0] if len(files) == 1 else read_shards(files) for name, files in found.items()
    }


def _shards(path: Path, count: int) -> list[Path]:
    """Return the files that a set is divided into, of which this is one."""
    stem = path.name[: -len("00000-of-00000.parquet")]
    files = [path.with_name(f"{stem}{n:05}-of-{count:05}.parquet") for n in range(count)]
    missing = [file.name for file in files if not file.exists()]
    if missing:
        raise ValueError(
            f'"{path.parent}" has {path.name}, but not {missing[0]} ({len(missing)} of {count} '
            "files are missing). Download them all, or read a file by its own name."
        )
    return files


def _in_memory(source: Iterable[Any]) -> Examples:
    rows = list(source)
    if not rows:
        raise ValueError("The source has no rows")
    columns, _ = all_keys(enumerate(rows), "Row ")
    return Examples.from_columns({name: [row.get(name) for row in rows] for name in columns})


def _from_rows(source: Callable[[], Iterable[Any]]) -> Examples:
    first = next(iter(source()), None)
    if first is None:
        raise ValueError("The source has no rows")
    columns = _columns_of(first)

    def factory() -> Iterator[Chunk]:
        return dict_chunks(enumerate(source()), columns, "Row ")

    return _repeatable(Examples.from_chunks(factory, columns))


def _columns_of(row: Any) -> list[str]:
    if not isinstance(row, Mapping) or not row:
        raise ValueError(
            f"Row 0 is {row!r:.60}; expected a dict of column names to values, "
            'for example {"text": "...", "label": 0}'
        )
    return list(row)


def _from_catalogue(name: str, data_dir: str | Path | None) -> _Source:
    builder = prepared_builder(name, data_dir)

    def get(split_name: str | None) -> Examples:
        return tfds_examples(builder, str(split_name))

    return _Source(tuple(builder.info.splits), get)


def _repeatable(examples: Examples) -> Examples:
    """Refuse a stream in another order each time: splits of it would share rows."""
    first, again = (hash_chunks(examples.columns, examples.head(20).chunks()) for _ in range(2))
    if first != again:
        raise ValueError(
            "The source gives other rows, or another order, each time it is read. Leave shuffling "
            "to the pipeline (in tf.data: shuffle(..., reshuffle_each_iteration=False)), or pass "
            "a list of its rows."
        )
    return examples
