"""Data of one's own: looked at, converted where that is needed, and put into a configuration in one step.

`walk` finds the files, `layouts`, `lists`, `coco` and `labelme` the pairs of image and label, `census` looks at every
one of them, `encoding` decides what the values of the labels mean (with `tables` of names and colors), `split` and
`recipe` choose, and `configure` does all this in order and writes.
"""

from bisenetv1_plugin.datasets.own.configure import Summary, configure
from bisenetv1_plugin.datasets.own.options import Options

__all__ = ["Options", "Summary", "configure"]
