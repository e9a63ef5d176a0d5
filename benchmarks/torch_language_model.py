"""The peer of `quality_language_model.py`: GPT-2's architecture, small, in plain PyTorch."""

import torch
from torch import nn
from torch.nn import functional


class Block(nn.Module):
    """Attention and feed-forward layers, each normalized before and added after."""

    def __init__(self, heads: int, width: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width, bias=False)
        self.query_key_value = nn.Linear(width, 3 * width, bias=False)
        self.output = nn.Linear(width, width, bias=False)
        self.norm = nn.LayerNorm(width, bias=False)
        self.up = nn.Linear(width, 4 * width, bias=False)
        self.down = nn.Linear(4 * width, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, length, width = x.shape
        made = self.query_key_value(self.attention_norm(x))
        made = made.view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        found = functional.scaled_dot_product_attention(*made, is_causal=True)
        x = x + self.output(found.transpose(1, 2).reshape(batch, length, width))
        return x + self.down(functional.gelu(self.up(self.norm(x))))


class LanguageModel(nn.Module):
    """Embeddings, blocks, and a head that shares the embeddings."""

    def __init__(self, vocab_size: int, layers: int, heads: int, width: int, length: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocab_size, width)
        self.positions = nn.Embedding(length, width)
        self.blocks = nn.Sequential(*(Block(heads, width) for _ in range(layers)))
        self.norm = nn.LayerNorm(width, bias=False)
        for name, parameter in self.named_parameters():
            if parameter.dim() > 1:
                # Layers that add to the stream start smaller, as in GPT-2.
                adds = name.endswith(("output.weight", "down.weight"))
                nn.init.normal_(parameter, std=0.02 / (2 * layers) ** 0.5 if adds else 0.02)

    def loss(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the mean cross entropy of the tokens that come next, (batch, length + 1) int."""
        x = self.tokens(rows[:, :-1]) + self.positions.weight[: rows.shape[1] - 1]
        logits = self.norm(self.blocks(x)) @ self.tokens.weight.T
        return functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten())
