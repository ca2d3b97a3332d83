"""Looking at a model: its layers in a table, what flows between them, and pictures of both.

summary                       the layers with shapes, parameters and multiply-adds
activations                   what every layer returns for an input
plot_curves                   loss and accuracy against epochs
plot_filters                  the filters of a first layer
plot_feature_maps             an image and what each layer makes of it
plot_confusion                which class is taken for which
plot_mistakes                 the worst mistakes
save_figure                   a picture as PNG, PDF or SVG
FORMATS                       these three
output_folder                 a folder for pictures, tried before training
"""

from fnn.core.names import listed as _listed
from fnn.inspect.activations import activations as activations
from fnn.inspect.plots import plot_confusion as plot_confusion
from fnn.inspect.plots import plot_curves as plot_curves
from fnn.inspect.save import FORMATS as FORMATS
from fnn.inspect.save import output_folder as output_folder
from fnn.inspect.save import save_figure as save_figure
from fnn.inspect.summary import summary as summary
from fnn.inspect.tiles import plot_feature_maps as plot_feature_maps
from fnn.inspect.tiles import plot_filters as plot_filters
from fnn.inspect.tiles import plot_mistakes as plot_mistakes

__all__ = _listed(__doc__)
