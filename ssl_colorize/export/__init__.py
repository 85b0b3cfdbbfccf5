"""Trained networks as other programs take them: ONNX, PyTorch's .pt2, timm's files and folders."""
