"""From text to batches: sources, splits, tokenizer, store, plan, `tf.data` pipeline."""

from keras_finetune._lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "Batch": "plan",
        "EncodedBatch": "encoded_batch",
        "Examples": "examples",
        "Plan": "plan",
        "Ragged": "store_writer",
        "Splits": "splits",
        "Store": "store",
        "StoreWriter": "store_writer",
        "Tokenizer": "tokenizer",
        "bucket_widths": "buckets",
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
