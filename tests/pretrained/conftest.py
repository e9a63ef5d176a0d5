"""Small models that `transformers` itself wrote, of every family and head."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

VOCAB = 97
BERT = {
    "vocab_size": VOCAB,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 40,
    "max_position_embeddings": 50,
    "hidden_act": "gelu",
}
LLAMA = {
    "vocab_size": VOCAB,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "intermediate_size": 40,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
LONG_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
T5 = {
    "vocab_size": VOCAB,
    "d_model": 24,
    "d_kv": 5,
    "d_ff": 40,
    "num_layers": 2,
    "num_decoder_layers": 1,
    "num_heads": 3,
    "relative_attention_num_buckets": 12,
    "relative_attention_max_distance": 20,
    "decoder_start_token_id": 0,
}
# The class of the config, its settings, and the models that have a head here.
FAMILIES = {
    "bert": ("BertConfig", BERT, "Bert"),
    "bert_tanh_gelu": (
        "BertConfig",
        {**BERT, "hidden_act": "gelu_new", "layer_norm_eps": 1e-3, "type_vocab_size": 1},
        "Bert",
    ),
    "distilbert": (
        "DistilBertConfig",
        {
            "vocab_size": VOCAB,
            "dim": 24,
            "n_layers": 2,
            "n_heads": 3,
            "hidden_dim": 40,
            "max_position_embeddings": 50,
        },
        "DistilBert",
    ),
    "roberta": ("RobertaConfig", {**BERT, "type_vocab_size": 1, "pad_token_id": 1}, "Roberta"),
    "xlm_roberta": (
        "XLMRobertaConfig",
        {**BERT, "type_vocab_size": 1, "pad_token_id": 1},
        "XLMRoberta",
    ),
    "gpt2": (
        "GPT2Config",
        {"vocab_size": VOCAB, "n_embd": 24, "n_layer": 2, "n_head": 3, "n_positions": 50},
        "GPT2",
    ),
    "gpt2_odd": (
        "GPT2Config",
        {
            "vocab_size": VOCAB,
            "n_embd": 24,
            "n_layer": 1,
            "n_head": 4,
            "n_inner": 31,
            "n_positions": 50,
            "layer_norm_epsilon": 1e-3,
            "activation_function": "relu",
            "tie_word_embeddings": False,
        },
        "GPT2",
    ),
    "llama": ("LlamaConfig", LLAMA, "Llama"),
    "llama_tied_biased": (
        "LlamaConfig",
        {**LLAMA, "tie_word_embeddings": True, "attention_bias": True, "mlp_bias": True},
        "Llama",
    ),
    "llama3_long": ("LlamaConfig", {**LLAMA, "rope_parameters": LONG_ROPE}, "Llama"),
    "llama_linear_wide_heads": (
        "LlamaConfig",
        {
            **LLAMA,
            "head_dim": 10,
            "rope_parameters": {"rope_type": "linear", "factor": 2.5, "rope_theta": 1000.0},
        },
        "Llama",
    ),
    "qwen2": ("Qwen2Config", LLAMA, "Qwen2"),
    "qwen3": ("Qwen3Config", {**LLAMA, "head_dim": 8}, "Qwen3"),
    "bart": (
        "BartConfig",
        {
            "vocab_size": VOCAB,
            "d_model": 24,
            "encoder_layers": 2,
            "decoder_layers": 1,
            "encoder_attention_heads": 3,
            "decoder_attention_heads": 3,
            "encoder_ffn_dim": 40,
            "decoder_ffn_dim": 40,
            "max_position_embeddings": 50,
        },
        "Bart",
    ),
    "t5": ("T5Config", T5, "T5"),
    "t5_v1_1": (
        "T5Config",
        {
            **T5,
            "num_decoder_layers": None,
            "feed_forward_proj": "gated-gelu",
            "tie_word_embeddings": False,
        },
        "T5",
    ),
    "mt5": ("MT5Config", T5, "MT5"),
}
# Whose head is not the embedding. Its config says otherwise: `transformers` takes all T5 for tied.
UNTIED = ("t5_v1_1", "mt5")
HEADS = {
    "Bert": ("ForSequenceClassification", "ForMaskedLM", "ForQuestionAnswering"),
    "DistilBert": ("ForSequenceClassification", "ForMaskedLM", "ForQuestionAnswering"),
    "Roberta": ("ForSequenceClassification", "ForMaskedLM", "ForQuestionAnswering"),
    "XLMRoberta": ("ForSequenceClassification", "ForMaskedLM", "ForQuestionAnswering"),
    "GPT2": ("LMHeadModel", "ForSequenceClassification"),
    "Llama": ("ForCausalLM", "ForSequenceClassification"),
    "Qwen2": ("ForCausalLM", "ForSequenceClassification"),
    "Qwen3": ("ForCausalLM", "ForSequenceClassification"),
    "Bart": ("ForConditionalGeneration",),
    "T5": ("ForConditionalGeneration",),
    "MT5": ("ForConditionalGeneration",),
}
LABELS = ("calm", "angry", "sad")


def theirs(family, suffix="Model", seed=0, **more):
    """Make a model of `transformers` with random weights, biases and scales included."""
    kind, settings, name = FAMILIES[family]
    if suffix == "ForSequenceClassification":
        more["id2label"] = dict(enumerate(LABELS))
        more["label2id"] = {name: number for number, name in enumerate(LABELS)}
    settings = {"pad_token_id": 0, **settings, **more}
    config = getattr(transformers, kind)(**settings)
    torch.manual_seed(seed)
    model = getattr(transformers, name + suffix)(config)
    if family in UNTIED and hasattr(model, "lm_head"):
        model.lm_head.weight = torch.nn.Parameter(model.shared.weight.flip(0).clone())
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
        if hasattr(model, "final_logits_bias"):
            model.final_logits_bias.normal_()
    return model.eval()


@pytest.fixture
def make_theirs():
    return theirs


@pytest.fixture
def batch():
    """A padded batch of rows of different lengths, whose real tokens are not the padding's."""

    def make(lengths=(7, 45, 1), width=45, segments=1, seed=0, pad=0):
        rng = np.random.default_rng(seed)
        ids = rng.integers(4, VOCAB, (len(lengths), width)).astype("int32")
        mask = np.arange(width)[None] < np.array(lengths)[:, None]
        ids[~mask] = pad
        found = {"token_ids": ids, "padding_mask": mask}
        if segments > 1:
            found["segment_ids"] = np.where(mask, rng.integers(0, segments, ids.shape), 0)
        return found

    return make
