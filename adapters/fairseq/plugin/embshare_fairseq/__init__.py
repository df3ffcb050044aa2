"""What ``fairseq-train --user-dir`` imports: ``embshare fairseq-plugin`` prints this folder.

It is alone in its parent folder, because fairseq puts that folder on ``sys.path``.
"""

from embshare.adapters.fairseq.hooks import install

install()
