"""Fourier neural operator (Li et al. 2021, ICLR), `neuralop.models.FNO`."""

from neuralop import models

from peers.grid import GridSurrogate


class FNO(GridSurrogate):
    """FNO of 4 layers; norm, loss and weight decay as in neuraloperator's Darcy settings."""

    learning_rates = (5e-3, 1e-2, 2e-2)  # documented: 5e-3, in an example 1e-2
    batch_size = 8  # documented: 16
    modes, width = (
        (12, 12),
        16,
    )  # documented: 16 and 32; tried: 8, 12 and 16 modes, 12, 16, 24 and 32 channels

    def make(self, channels):
        """Return the network."""
        return models.FNO(
            n_modes=self.modes,
            in_channels=channels,
            out_channels=self.components,
            hidden_channels=self.width,
            norm="group_norm",
        )
