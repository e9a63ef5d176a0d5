"""From text to batches: sources, splits, tokenizer, store, plan, `tf.data` pipeline."""

from keras_finetune._lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "Batch": "plan",
        "EncodedBatch": "tokenizer",
        "Examples": "examples",
        "Plan": "plan",
        "Splits": "splits",
        "Store": "store",
        "Tokenizer": "tokenizer",
        "bucket_widths": "plan",
        "build_store": "store",
        "cache_dir": "store",
        "load": "sources",
        "make_dataset": "pipeline",
        "make_plan": "plan",
        "read": "sources",
        "split": "splits",
        "track": "progress",
    },
)
