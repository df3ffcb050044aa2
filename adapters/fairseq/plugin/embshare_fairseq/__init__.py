"""Plug-in of ``fairseq-train --user-dir``; ``embshare fairseq-plugin`` prints its folder.

It is alone in its parent folder, because fairseq puts that folder on ``sys.path``.
"""

from embshare.adapters.fairseq.hooks import install

install()
