"""U-shaped neural operator (Rahman, Ross & Azizzadenesheli 2022, TMLR), `neuralop.models.UNO`."""

from neuralop import models

from peers.grid import GridSurrogate


class UNO(GridSurrogate):
    """U-NO of neuraloperator's Darcy example: 5 layers, H1 loss, padding 0.2."""

    learning_rates = (4e-3, 8e-3, 1.6e-2)  # documented: 8e-3
    batch_size = 4  # documented: 32; tried: 4, 8 and 16
    width = 16  # documented: 64; tried: 16 and 32

    def make(self, channels):
        """Return the network."""
        half, full = self.width // 2, self.width
        return models.UNO(
            in_channels=channels,
            out_channels=self.components,
            hidden_channels=full,
            lifting_channels=2 * full,
            projection_channels=full,
            uno_out_channels=[half, full, full, full, half],
            uno_n_modes=[[16, 16], [8, 8], [8, 8], [8, 8], [16, 16]],
            uno_scalings=[[1.0, 1.0], [0.5, 0.5], [1, 1], [2, 2], [1, 1]],
            channel_mlp_skip="linear",
            n_layers=5,
            domain_padding=0.2,
        )
