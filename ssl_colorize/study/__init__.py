"""The perceptual study: people tell real photos from recolored ones, in a web page."""
