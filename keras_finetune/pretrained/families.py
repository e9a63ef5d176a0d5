"""The families that are known, by the model type in their configs."""

from keras_finetune.pretrained import bart, bert, distilbert, gpt2, llama, roberta, t5
from keras_finetune.pretrained.config_file import Config, optional
from keras_finetune.pretrained.family import Family
from keras_finetune.suggest import did_you_mean

FAMILIES: dict[str, Family] = {
    family.model_type: family
    for family in (
        bert.FAMILY,
        distilbert.FAMILY,
        roberta.FAMILY,
        roberta.XLM_ROBERTA,
        gpt2.FAMILY,
        llama.FAMILY,
        llama.QWEN2,
        llama.QWEN3,
        bart.FAMILY,
        t5.FAMILY,
        t5.MT5,
    )
}


def family_of(config: Config) -> Family:
    """Return the family of a config.

    Raises:
        ValueError: It is not known.
    """
    model_type = config["model_type"]
    if model_type not in FAMILIES:
        raise ValueError(
            f"There is no model type {model_type!r} here. Known are {', '.join(sorted(FAMILIES))}."
            f"{did_you_mean(model_type, FAMILIES)} KerasHub may have it "
            f'(keras_hub.models.Backbone.from_preset("hf://...")), and FineTuner takes its models '
            "as they are."
        )
    return FAMILIES[model_type]


def head_of(family: Family, config: Config) -> str:
    """Return the name of our builder for the head that a checkpoint has.

    Raises:
        ValueError: It has none, or one that is not known.
    """
    names = optional(config, "architectures", list, "a list") or [family.architecture]
    for kind, head in family.heads.items():
        if names[0] in (head.architecture, *head.aliases):
            return kind
    known = ", ".join(head.architecture for head in family.heads.values())
    raise ValueError(
        f"The checkpoint's architecture is {names[0]}, whose head is not known here; known are "
        f"{known}. Load the backbone alone: load_pretrained(path)."
    )
