"""Continue prompts, or decode what an encoder read: greedily, by sampling, by beam search."""

from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np

from keras_finetune.generation.beams import Beams
from keras_finetune.generation.choosing import choose
from keras_finetune.generation.prompts import (
    PromptBatch,
    as_list,
    check_single,
    check_texts,
    decoder_of,
    first_token,
    token_ids_of,
)
from keras_finetune.generation.settings import (
    Settings,
    check_lengths,
    check_model,
    check_token,
    end_ids_of,
)
from keras_finetune.generation.stopping import Stops, complete_text


def generate(
    model: keras.Model,
    prompts: Sequence[Any],
    *,
    max_new_tokens: int = 128,
    num_beams: int = 1,
    length_penalty: float = 1.0,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
    repetition_penalty: float = 1.0,
    no_repeat_ngram_size: int = 0,
    stop: Sequence[str] = (),
    end_id: "int | Sequence[int] | None" = None,
    start_id: int | None = None,
    pad_id: int = 0,
    batch_size: int = 32,
    use_cache: bool = True,
) -> list[Any]:
    """Generate what comes after prompts, or the target of sources.

    Keys and values of earlier tokens are kept, so that each token is computed once. The most
    probable token is taken at each step, unless `temperature` or `num_beams` say otherwise.

    Args:
        model: A language model: from a task, `models.language_model`, or `load_pretrained` with
            its head. One with an encoder reads the prompts there.
        prompts: Texts, for which the model needs its tokenizer, or sequences of token ids.
        max_new_tokens: int, tokens that a text gets at most.
        num_beams: int, continuations that beam search follows; 1 for none.
        length_penalty: float, above 0 favours long texts in beam search.
        temperature: float, above 0 to sample: what logits are divided by.
        top_k: int, sample among so many of the most probable tokens.
        top_p: float, sample among the most probable tokens that together have this probability.
        seed: int; the same one gives the same samples.
        repetition_penalty: float, above 1 makes tokens less probable that were there before.
        no_repeat_ngram_size: int, a row of so many tokens may not come twice; 0: it may.
        stop: Texts before which to stop; the model needs its tokenizer.
        end_id: Token or tokens that end a text. Default: the tokenizer's.
        start_id: int, the decoder's first token, if there is an encoder. Default: what the
            pretrained config says, else the tokenizer's bos or cls token.
        pad_id: int, what rows are filled up with; any token will do.
        batch_size: int, prompts at a time.
        use_cache: Whether what is known of earlier tokens is kept; without, all is computed again
            for each token.

    Returns:
        For each prompt, in order, what is new, without an end token: a text for texts, a NumPy
        array of token ids for token ids.

    Raises:
        ValueError: The model cannot generate, an argument is out of range, or a prompt is empty or
            does not fit the model's positions.

    Example:
        >>> import keras_finetune as kft
        >>> backbone = kft.models.transformer_decoder(100, num_layers=1, num_heads=2, hidden_dim=16)
        >>> model = kft.models.language_model(backbone)
        >>> ids = generate(model, [[1, 2, 3], [4]], max_new_tokens=5, end_id=-1)
        >>> [len(new) for new in ids]
        [5, 5]
    """
    settings = Settings(
        max_new_tokens=max_new_tokens,
        num_beams=num_beams,
        length_penalty=length_penalty,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        repetition_penalty=repetition_penalty,
        no_repeat_ngram_size=no_repeat_ngram_size,
        seed=seed,
        batch_size=batch_size,
    )
    prompts = as_list(prompts)
    check_model(model)
    if not prompts:
        return []
    as_texts = isinstance(prompts[0], str)
    tokenizer = getattr(model, "tokenizer", None)
    check_texts(prompts, tokenizer)
    vocab_size = model.outputs[0].shape[-1]
    check_token("pad_id", pad_id, vocab_size)
    ends = end_ids_of(end_id, tokenizer, vocab_size)
    ids = [token_ids_of(prompt, tokenizer, model, ends) for prompt in prompts]
    check_lengths(model, ids, settings)
    stops = Stops(stop, tokenizer)
    if stops and num_beams > 1:
        raise ValueError("Beam search does not look for stop texts. Give stop or num_beams.")
    begin = first_token(model, start_id)
    decoder = decoder_of(model, use_cache)
    rng = np.random.default_rng(seed)
    # Prompts of similar length in a batch pad little.
    order = np.argsort([-len(x) for x in ids], kind="stable")
    found: list[Any] = [None] * len(ids)
    for first in range(0, len(ids), batch_size):
        rows = order[first : first + batch_size]
        # The last batch is filled up, since compilers work for each size.
        missing = batch_size - len(rows) if first else 0
        together = [ids[row] for row in (*rows, *rows[:1].repeat(missing))]
        batch = PromptBatch(model, decoder, together, begin, pad_id, settings, ends)
        if num_beams > 1:
            new = _beam_search(batch, settings)
        else:
            new = _one_by_one(batch, settings, stops, rng)
        for row, tokens in zip(rows, new, strict=False):
            found[row] = stops.cut(tokens, as_text=as_texts)
    return found


def stream(
    model: keras.Model,
    prompt: Any,
    *,
    max_new_tokens: int = 128,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
    repetition_penalty: float = 1.0,
    no_repeat_ngram_size: int = 0,
    stop: Sequence[str] = (),
    end_id: "int | Sequence[int] | None" = None,
    start_id: int | None = None,
) -> Iterator[str]:
    """Generate what comes after one prompt, piece by piece.

    Joined, the pieces are what `generate` returns for a text. A character of several tokens comes
    when it is complete.

    Args:
        model: As for `generate`, with its tokenizer.
        prompt: A text, or token ids.
        max_new_tokens: As for `generate`, and so are the arguments after it.
        temperature: See `generate`.
        top_k: See `generate`.
        top_p: See `generate`.
        seed: See `generate`.
        repetition_penalty: See `generate`.
        no_repeat_ngram_size: See `generate`.
        stop: See `generate`.
        end_id: See `generate`.
        start_id: See `generate`.

    Yields:
        Pieces of text.

    Raises:
        ValueError: As for `generate`, or the model has no tokenizer.

    Example:
        >>> import keras_finetune as kft
        >>> tokenizer = kft.data.Tokenizer.train(["one two three"], vocab_size=300, progress=False)
        >>> backbone = kft.models.transformer_decoder(
        ...     tokenizer.vocab_size, num_layers=1, num_heads=2, hidden_dim=16)
        >>> model = kft.models.language_model(backbone)
        >>> model.tokenizer = tokenizer
        >>> pieces = list(stream(model, "one two", max_new_tokens=4))
        >>> "".join(pieces) == kft.generation.generate(model, ["one two"], max_new_tokens=4)[0]
        True
    """
    settings = Settings(
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        repetition_penalty=repetition_penalty,
        no_repeat_ngram_size=no_repeat_ngram_size,
        seed=seed,
    )
    check_model(model)
    tokenizer = getattr(model, "tokenizer", None)
    if tokenizer is None:
        raise ValueError(
            "stream gives text, for which the model needs a tokenizer. Set model.tokenizer to a "
            "keras_finetune.data.Tokenizer, or use generate with token ids."
        )
    check_single(prompt)
    ends = end_ids_of(end_id, tokenizer, model.outputs[0].shape[-1])
    ids = token_ids_of(prompt, tokenizer, model, ends)
    check_lengths(model, [ids], settings)
    stops = Stops(stop, tokenizer)
    batch = PromptBatch(
        model, decoder_of(model, True), [ids], first_token(model, start_id), 0, settings, ends
    )
    return _pieces(batch, settings, stops, np.random.default_rng(seed))


def _one_by_one(
    batch: PromptBatch, settings: Settings, stops: Stops, rng: np.random.Generator
) -> list[np.ndarray]:
    """The new tokens of each row, chosen greedily or by chance."""
    new: list[list[int]] = [[] for _ in range(batch.size)]
    for tokens, going_on in _choices(batch, settings, stops, rng, new):
        for row in np.flatnonzero(going_on):
            new[row].append(int(tokens[row]))
    return [np.array(row, np.int32) for row in new]


def _choices(
    batch: PromptBatch,
    settings: Settings,
    stops: Stops,
    rng: np.random.Generator,
    new: list[list[int]],
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """At each step the tokens of all rows, and which rows have not ended with them.

    Whoever asks puts the tokens into `new` before asking again.
    """
    going_on = np.ones(batch.size, bool)
    while True:
        so_far = [np.array(row, np.int32) for row in new]
        logits = batch.allowed(so_far, going_on, settings)
        if settings.no_repeat_ngram_size:  # It may leave a row no token.
            possible = np.isfinite(logits).any(axis=-1)
            going_on &= possible
            logits = np.where(possible[:, None], logits, 0.0)
        tokens = choose(
            logits,
            temperature=settings.temperature,
            top_k=settings.top_k,
            top_p=settings.top_p,
            rng=rng,
        )
        going_on &= ~np.isin(tokens, batch.ends)
        yield tokens, going_on
        if stops:
            going_on &= [not stops.found(row) for row in new]
        if not going_on.any() or max(map(len, new)) >= settings.max_new_tokens:
            return
        batch.logits = batch.decoder.next(tokens)


def _beam_search(batch: PromptBatch, settings: Settings) -> list[np.ndarray]:
    beams = Beams(batch.size, settings.num_beams, batch.ends, settings.length_penalty)
    batch.split(settings.num_beams)
    for count in range(1, settings.max_new_tokens + 1):
        going_on = np.repeat(~beams.done, settings.num_beams)
        rows, tokens = beams.step(batch.allowed(beams.tokens, going_on, settings))
        if beams.done.all() or count == settings.max_new_tokens:
            break
        batch.decoder.reorder(rows)
        batch.logits = batch.decoder.next(tokens)
    return beams.best()


def _pieces(
    batch: PromptBatch, settings: Settings, stops: Stops, rng: np.random.Generator
) -> Iterator[str]:
    new: list[list[int]] = [[]]
    given = ""
    for tokens, going_on in _choices(batch, settings, stops, rng, new):
        if going_on[0]:
            new[0].append(int(tokens[0]))
        text = complete_text(stops.text(new[0]))
        text = text[: len(text) - stops.longest_beginning(text)]
        if len(text) > len(given) and not stops.found(new[0]):
            yield text[len(given) :]
            given = text
    rest = stops.cut(np.array(new[0], np.int32), as_text=True)[len(given) :]
    if rest:
        yield rest
