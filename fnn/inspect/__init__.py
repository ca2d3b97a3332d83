"""Looking at a model: its layers in a table, what flows between them, and pictures of both."""

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
