from keras_finetune.tuning import freeze, learning_rate_groups, summary_table


def rows(table):
    first, *others = (list(column.cells) for column in table.columns)
    return dict(zip(first, zip(*others, strict=True), strict=True))


def test_rows(model):
    freeze(model, "backbone", bottom=1)
    found = rows(summary_table(model, *learning_rate_groups(model, {"head": 0.1, "*": 0.01})))
    assert found["token_embedding"] == ("embeddings", "160", "no", "")
    assert found["block_1"] == ("backbone", "144", "144", "0.01")
    assert found["head_logits"] == ("head", "27", "27", "0.1")
    assert found["total"] == ("", "475", "171 (36.0%)", "")
