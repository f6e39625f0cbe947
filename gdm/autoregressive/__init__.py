"""Autoregressive models: exact log-likelihood by the chain rule."""

from gdm.exports import on_demand

__getattr__, __dir__ = on_demand(__name__, {
    "FVSBN": "vectors.fvsbn", "MADE": "vectors.made", "NADE": "vectors.nade", "RNADE": "vectors.rnade",
    "UntiedMLP": "vectors.mlp",
    "Recurrent": "sequences.recurrent", "SequenceModel": "sequences.sequence_model",
    "Transformer": "sequences.transformer", "WaveNet": "sequences.wavenet", "recurrent": "sequences.recurrent",
    "transformer": "sequences.transformer", "wavenet": "sequences.wavenet",
    "ImageModel": "images.image_model", "diagonal_bilstm": "images.diagonal_bilstm",
    "gated_pixelcnn": "images.gated_pixelcnn", "pixelcnn": "images.pixelcnn", "pixelcnn_pp": "images.pixelcnn_pp",
    "pixelsnail": "images.pixelsnail", "row_lstm": "images.row_lstm",
})
