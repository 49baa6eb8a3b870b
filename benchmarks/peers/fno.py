"""Fourier neural operator (Li et al. 2021, ICLR), `neuralop.models.FNO`."""

from neuralop import models

from peers.grid import GridSurrogate


class FNO(GridSurrogate):
    """FNO of 4 layers; norm, loss, weight decay and batches as in neuraloperator's Darcy settings."""

    learning_rates = (2.5e-3, 5e-3, 1e-2)  # documented: 5e-3, in an example 1e-2
    batch_size = 16
    modes, width = (16, 16), 32

    def make(self, channels):
        """Return the network."""
        return models.FNO(
            n_modes=self.modes,
            in_channels=channels,
            out_channels=self.components,
            hidden_channels=self.width,
            norm="group_norm",
        )
