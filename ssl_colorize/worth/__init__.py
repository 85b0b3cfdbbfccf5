"""Whether pretraining on one's own photos is worth it: pretrain, measure beside what costs nothing, and decide."""
