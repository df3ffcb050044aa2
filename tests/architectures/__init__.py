"""Every architecture of transformers, torchvision, timm and fairseq, verified on demand.

`python -m tests.architectures --help` says how; the tests here verify some of every kind.
"""
