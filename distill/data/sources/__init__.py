"""Where batches come from. Every source yields the same structure, and the same batches for the same (seed, epoch).

A batch is (images uint8 [B, H, W, 3] RGB 0..255, {"embedding": float32 [B, D], "label": int32 [B]}); `fields` says which keys are there.
Every row comes exactly once an epoch, the last batch may be short, memory does not grow with the number of rows beyond 6 bytes a row. Where batches are
balanced (so many identities, so many images of each) all are whole, a row comes once an epoch in the mean, and memory has 4 bytes a row more.

What makes a stream fast (measured): whole row groups of encoded bytes, a pool of some groups permuted in memory, a whole batch decoded
in threads into one array, a short queue. Anything done per image in Python or TensorFlow halves it.
"""

from distill.data.sources.holdout import held_out
from distill.data.sources.images import ImageSource, root_of
from distill.data.sources.noise import NoiseSource
from distill.data.sources.order import POOL_GROUPS
from distill.data.sources.shards import ShardSource
from distill.data.sources.source import QUEUE, Batch, Source

__all__ = ["POOL_GROUPS", "QUEUE", "Batch", "ImageSource", "NoiseSource", "ShardSource", "Source", "held_out", "root_of"]
